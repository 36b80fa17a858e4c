export interface BindingWords {
  bound: boolean
  sentence: string
}

const WORDS: Record<string, BindingWords> = {
  dpop: {
    bound: true,
    sentence: 'Its access is locked to a private key it holds (DPoP). A stolen copy is useless.',
  },
  mtls: {
    bound: true,
    sentence: 'Its access is locked to its TLS certificate. A stolen copy is useless.',
  },
  'token-binding': {
    bound: true,
    sentence:
      'Its access is locked to its TLS connection key (Token Binding). A stolen copy is useless.',
  },
}

const BEARER: BindingWords = {
  bound: false,
  sentence: 'Its access is not locked to a key. Whoever gets hold of a copy can use it as you.',
}

/** How a client's tokens are held, in words. What is not known to be bound is called unbound. */
export function bindingWords(bindingMethod: unknown): BindingWords {
  return (
    (typeof bindingMethod === 'string' &&
      Object.hasOwn(WORDS, bindingMethod) &&
      WORDS[bindingMethod]) ||
    BEARER
  )
}
