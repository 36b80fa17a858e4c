import type { MessageKey } from './messages.ts'

export interface BindingLabels {
  readonly bound: boolean
  readonly label: MessageKey
  readonly sentence: MessageKey
}

const bound = (sentence: MessageKey): BindingLabels => ({
  bound: true,
  label: 'binding.bound',
  sentence,
})

const labels = new Map<unknown, BindingLabels>([
  ['dpop', bound('binding.dpop')],
  ['mtls', bound('binding.mtls')],
  ['token-binding', bound('binding.token-binding')],
])

const bearer: BindingLabels = {
  bound: false,
  label: 'binding.unbound',
  sentence: 'binding.bearer',
}

/** What pages say about the binding of a client's tokens. A method that is not known is not bound. */
export function bindingLabels(bindingMethod: unknown): BindingLabels {
  return labels.get(bindingMethod) ?? bearer
}
