import type Provider from 'oidc-provider'

/** The model classes of the engine that Holdfast extends. */
export type ModelName =
  | 'AccessToken'
  | 'AuthorizationCode'
  | 'BackchannelAuthenticationRequest'
  | 'Claims'
  | 'ClientCredentials'
  | 'DeviceCode'
  | 'Grant'
  | 'IdToken'
  | 'Interaction'
  | 'PushedAuthorizationRequest'
  | 'RefreshToken'
  | 'ReplayDetection'
  | 'Session'

/**
 * Replaces a model class. The name of the class is the key of its adapter, TTL and events.
 */
export function override<Name extends ModelName>(
  engine: Provider,
  name: Name,
  make: (Base: Provider[Name]) => Provider[Name],
): void {
  const Model = make(engine[name])
  Object.defineProperty(Model, 'name', { value: name })
  Object.defineProperty(engine, name, { value: Model, configurable: true })
}
