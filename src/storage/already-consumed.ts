/**
 * The one thing that could not be consumed, because another request had consumed it, it expired,
 * or it was revoked since it was found.
 */
export class AlreadyConsumedError extends Error {
  override name = 'AlreadyConsumedError'
  readonly kind: string

  constructor(kind: string) {
    super(`${kind} was already consumed`)
    this.kind = kind
  }
}
