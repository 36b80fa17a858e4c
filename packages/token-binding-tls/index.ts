export {
  TokenBindingAgent,
  type TokenBindingAgentOptions,
} from './agent.ts'
export { type NegotiatedTokenBinding, tokenBindingOf } from './connection.ts'
export { TokenBindingTlsError, type TokenBindingTlsErrorCode } from './errors.ts'
export {
  createMemoryKeys,
  encodeTokenBindingId,
  generateTokenBindingKey,
  registeredDomain,
  type TokenBindingKey,
  type TokenBindingKeys,
} from './keys.ts'
export { isAvailable, type KeyParameters } from './native.ts'
export { type EquipOptions, equip } from './server.ts'
