/** What the engine keeps to itself, as far as `engine-keys.ts` needs it. */
declare module 'oidc-provider/lib/helpers/weak_cache.js' {
  export interface ServerChallenge {
    nextChallenge(): string
    checkChallenge(challenge: string): boolean
  }
  interface Internals {
    keystore: object
    jwks: { keys: object[] }
    DPoPNonces?: ServerChallenge
  }
  export function get(provider: object): Internals | undefined
}
