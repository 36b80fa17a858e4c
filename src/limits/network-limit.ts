import { networksOf } from '../net/network.ts'
import type { Limiter } from '../storage/limiter.ts'
import { alone, type Siblings } from './siblings.ts'

/** A limit on what one network asks for. */
export interface NetworkLimit {
  /** Seconds until the network of an address may ask again; undefined where it may now. */
  wait(address: string): number | undefined
  /**
   * Counts a request.
   *
   * @returns seconds to wait where the network had used up its share: then nothing is counted.
   */
  take(address: string): Promise<number | undefined>
}

/** An IPv6 /48 may be one subscriber or a few hundred of them. */
const wideFactor = 10

const minuteMs = 60_000

/**
 * A bucket of tokens for each network, in the memory of this node: as many as `perMinute`, and as
 * many come back in a minute. An IPv6 address counts for its /64 and for its /48, which has ten
 * times as many. Of the networks that were not seen for the longest time the count is forgotten, so
 * that memory is bounded, and every call takes the same time.
 *
 * @param shared a count of all nodes, which is asked while there are tokens here, and only for a
 * network that has taken more than `unshared` of them here: neither what one network does beyond its
 * limit nor what many do once reaches the database.
 * @param siblings the other processes of this node, which count under the same `name`.
 */
export function createNetworkLimit({
  name = '',
  perMinute,
  shared,
  unshared = 0,
  mostNetworks = 20_000,
  siblings = alone,
  now = () => performance.now(),
}: {
  name?: string
  perMinute: number
  shared?: Limiter
  unshared?: number
  mostNetworks?: number
  siblings?: Siblings
  now?: () => number
}): NetworkLimit {
  const options = { mostKeys: mostNetworks, siblings, now }
  const near = createBuckets({ ...options, name, perMinute })
  const wide = createBuckets({
    ...options,
    name: `${name} wide`,
    perMinute: perMinute * wideFactor,
  })

  function wait(networks: ReturnType<typeof networksOf>): number | undefined {
    const waitMs = Math.max(
      near.waitMs(networks.near),
      networks.wide ? wide.waitMs(networks.wide) : 0,
    )
    return waitMs > 0 ? Math.max(1, Math.ceil(waitMs / 1000)) : undefined
  }

  return {
    wait: (address) => wait(networksOf(address)),
    async take(address) {
      const networks = networksOf(address)
      const seconds = wait(networks)
      if (seconds !== undefined) return seconds
      near.take(networks.near)
      if (networks.wide) wide.take(networks.wide)
      if (!shared || near.taken(networks.near) <= unshared) return undefined
      const everywhere = await shared.take(networks.near)
      if (everywhere !== undefined) near.close(networks.near, everywhere * 1000)
      return everywhere
    },
  }
}

/** Buckets of tokens by key, of which the least recently used are forgotten. */
export function createBuckets({
  name = '',
  perMinute,
  mostKeys,
  siblings = alone,
  now = () => performance.now(),
}: {
  name?: string
  perMinute: number
  mostKeys: number
  siblings?: Siblings
  now?: () => number
}) {
  const tokenMs = minuteMs / perMinute
  /** When each bucket will be full (the generic cell rate algorithm), the one used last at the end. */
  const fullAt = new Map<string, number>()

  function put(key: string, time: number) {
    fullAt.delete(key)
    fullAt.set(key, time)
    const [oldest] = fullAt.size > mostKeys ? fullAt.keys() : []
    if (oldest !== undefined) fullAt.delete(oldest)
  }

  function take(key: string, count: number) {
    put(key, Math.max(fullAt.get(key) ?? 0, now()) + count * tokenMs)
  }

  const tell = siblings.join(name, take)
  return {
    /** Until there is a token. */
    waitMs(key: string): number {
      const time = fullAt.get(key)
      if (time === undefined) return 0
      put(key, time)
      const waitMs = time + tokenMs - now() - minuteMs
      // Sums of fractions are inexact.
      return waitMs > tokenMs / 2 ? waitMs : 0
    },
    /** Takes a token that there is. */
    take(key: string): void {
      take(key, 1)
      tell(key)
    },
    /** Tokens that are not there. */
    taken(key: string): number {
      return Math.max(0, Math.round(((fullAt.get(key) ?? 0) - now()) / tokenMs))
    },
    /** Leaves no token for a time. */
    close(key: string, forMs: number): void {
      put(key, now() + minuteMs - tokenMs + forMs)
    },
    size: () => fullAt.size,
  }
}
