/**
 * A bounded map that forgets what has not been used lately.
 *
 * Two plain maps take turns: what is used moves to the young one; when the young one is full it
 * becomes the old one and the former old one is dropped. It behaves like an LRU of between `limit`
 * and twice `limit` entries, without the cost of reordering on every read.
 */
export class RecentMap<V> {
  readonly #limit: number
  #young = new Map<string, V>()
  #old = new Map<string, V>()

  constructor(limit: number) {
    this.#limit = limit
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.#limit && !this.#young.has(key)) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }

  delete(key: string): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }
}
