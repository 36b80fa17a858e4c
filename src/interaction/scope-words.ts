const SCOPES: Record<string, string> = {
  openid: 'Know that it is you, by a number of your account',
  profile: 'See your name',
  email: 'See your email address',
  offline_access: 'Keep this access while you are away',
}

const CLAIMS: Record<string, string> = {
  email: 'See your email address',
  email_verified: 'See whether your email address was checked',
  name: 'See your name',
}

/** What a scope of ours lets a client do; undefined for one that only its resource server knows. */
export function scopeWords(scope: string): string | undefined {
  return Object.hasOwn(SCOPES, scope) ? SCOPES[scope] : undefined
}

export function claimWords(claim: string): string | undefined {
  return Object.hasOwn(CLAIMS, claim) ? CLAIMS[claim] : undefined
}
