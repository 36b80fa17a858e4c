/**
 * A bounded map that forgets what has not been used lately.
 *
 * Two plain maps take turns: what is used moves to the young one; when the young one is full it
 * becomes the old one and the former old one is dropped. It behaves like an LRU of between `limit`
 * and twice `limit` entries, without the cost of reordering on every read. Bytes are bounded in the
 * same way, for an entry may be as large as a client makes it.
 */
export class RecentMap<V> {
  readonly #limit: number
  readonly #limitBytes: number
  readonly #bytesOf: (key: string, value: V) => number
  #young = new Map<string, V>()
  #old = new Map<string, V>()
  #youngBytes = 0

  constructor(
    limit: number,
    limitBytes = Number.POSITIVE_INFINITY,
    bytesOf: (key: string, value: V) => number = (key) => key.length,
  ) {
    this.#limit = limit
    this.#limitBytes = limitBytes
    this.#bytesOf = bytesOf
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, value: V): void {
    const bytes = this.#bytesOf(key, value)
    this.delete(key)
    if (bytes > this.#limitBytes) return
    const isFull = this.#young.size >= this.#limit || this.#youngBytes + bytes > this.#limitBytes
    if (isFull) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngBytes = 0
    }
    this.#young.set(key, value)
    this.#youngBytes += bytes
  }

  delete(key: string): void {
    const young = this.#young.get(key)
    if (young !== undefined) this.#youngBytes -= this.#bytesOf(key, young)
    this.#young.delete(key)
    this.#old.delete(key)
  }
}
