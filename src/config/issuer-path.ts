/** Whether a text is a path as an issuer may have one: plain segments, and no final slash. */
export function isPath(text: string): boolean {
  return /^(\/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+$/.test(text)
}

/** The path of an issuer, below which everything public is; `` for one that is an origin. */
export function pathOfIssuer(issuer: string): string {
  return new URL(issuer).pathname.replace(/\/$/, '')
}
