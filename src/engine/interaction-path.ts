/** Where the pages of an interaction are, below the path of the issuer. */
export function interactionPath(base: string, uid: string): string {
  return `${base}/interaction/${uid}`
}
