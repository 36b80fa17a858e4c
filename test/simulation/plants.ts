/** Guards that a run can be made without, one at a time: the simulation must notice each. */
export const plants = {
  'rows-not-counted': 'two requests that consume one credential both succeed',
  'reuse-does-not-end': 'a credential that comes back does not end its family',
  'key-not-compared': 'the key of a credential is taken from the request',
  'expiry-ignored': 'what has expired is found and good',
  'jti-not-recorded': 'no proof is recorded',
  'jti-checked-then-recorded': 'a proof is looked for in one statement and recorded in the next',
  'consumed-then-written':
    'a token is consumed in one statement and its successor written in the next',
  'ended-family-forgotten': 'what a concurrent request writes into an ended family stays good',
  'successor-random': 'a refresh that is repeated gets a new successor',
  'grace-without-end': 'a refresh may be repeated for ever',
  'answered-before-committed': 'the answer does not wait for the commit',
  'assertion-not-recorded': 'a client assertion is not recorded',
  'jti-forgotten-early': 'proofs and assertions are forgotten before they expire',
  'next-key-not-compared': 'any key is taken for the one that the last refresh has named',
  'next-key-without-end': 'the key that a refresh has named is good beside the old one for ever',
  'next-key-forgotten': 'the key that a refresh names is not stored',
  'token-binding-not-compared': 'the Token Binding of a credential is taken from the request',
  'revokes-one-token': 'a revocation ends one token and not its family',
  'verifier-not-compared': 'the challenge of a code is taken from the request',
  'session-not-asked': 'a token that ends with its session is good after it',
  'kept-token-consumed': 'a refresh token that is kept is used up by its first use',
  'client-not-authenticated': 'a client that authenticates by a key is taken at its word',
} as const

export type Plant = keyof typeof plants

/** Whether a name is one of {@link plants}. */
export const isPlant = (name: string): name is Plant => name in plants
