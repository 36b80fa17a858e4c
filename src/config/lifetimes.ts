/** Lifetimes in seconds. */
export const lifetimes = {
  // A JWT access token cannot be called back: this is how long it lives after a revocation.
  AccessToken: 10 * 60,
  ClientCredentials: 10 * 60,
  AuthorizationCode: 60,
  // Time to find the other device, and to sign in there.
  DeviceCode: 10 * 60,
  IdToken: 10 * 60,
  Interaction: 60 * 60,
  Session: 14 * 24 * 60 * 60,
  // Every use of a token needs its grant: this is how long rotation can continue without the user.
  Grant: 90 * 24 * 60 * 60,
  RefreshToken: 14 * 24 * 60 * 60,
}

/** For how long a chain of tokens that was ended is remembered, in seconds: longer than any token lives. */
export const endedChainMemoryS = lifetimes.Grant + 60 * 60
