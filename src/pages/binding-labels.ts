export interface BindingWords {
  bound: boolean
  label: string
  sentence: string
}

const bound = (key: string): BindingWords => ({
  bound: true,
  label: 'Locked to a key',
  sentence: `What it receives works only with ${key}. A stolen copy opens nothing.`,
})

const WORDS = new Map<unknown, BindingWords>([
  ['dpop', bound('a private key that it keeps')],
  ['mtls', bound('the private key of its certificate')],
  ['token-binding', bound('the private key of its connections')],
])

const BEARER: BindingWords = {
  bound: false,
  label: 'Warning: not locked to a key',
  sentence: 'Whoever gets a copy of what it receives can use it as you until it expires.',
}

/** How a client's tokens are held, in words. What is not known to be bound is called unbound. */
export function bindingWords(bindingMethod: unknown): BindingWords {
  return WORDS.get(bindingMethod) ?? BEARER
}
