import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import type { Load } from '../support/load.ts'
import type { Member, PatroniCluster } from './patroni.ts'

/** What a scenario acts on. */
export interface Environment {
  readonly cluster: PatroniCluster
  readonly load: Load
  /** Reports what must not be. */
  violate(violation: string): void
}

/** Something that happens to a cluster under load. It leaves the cluster able to become whole. */
export interface Scenario {
  readonly name: string
  readonly title: string
  run(environment: Environment): Promise<void>
}

/** In the order in which they run. */
export const scenarios: readonly Scenario[] = [
  {
    name: 'switchover',
    title: 'the leader is switched on purpose',
    async run({ cluster, load }) {
      const old = await cluster.leader()
      await cluster.switchOver()
      await cluster.newLeader(old)
      await load.progress(5)
    },
  },
  {
    name: 'etcd',
    title: 'the leader of etcd is killed',
    async run({ cluster, load }) {
      const leads = await Promise.all(cluster.etcd.map((member) => member.isLeader()))
      const leader = cluster.etcd[leads.indexOf(true)]
      if (!leader) throw new Error('no member of etcd leads')
      await leader.kill()
      // Longer than Patroni's `ttl`: by then the leader has renewed its key with the others.
      await setTimeout(25_000)
      await load.progress(5)
      leader.start()
    },
  },
  {
    name: 'kill',
    title: 'the leader is killed',
    async run({ cluster, load }) {
      const old = await cluster.leader()
      await old.kill()
      await cluster.newLeader(old)
      await load.progress(5)
      old.start()
    },
  },
  {
    name: 'freeze',
    title: 'the leader is frozen, and thawed when another leads',
    async run({ cluster, load, violate }) {
      const old = await cluster.leader()
      old.freeze()
      await cluster.newLeader(old)
      await load.progress(5)
      // Its own clock has stood still: at this moment it takes itself for the leader.
      const probing = probe(old)
      old.thaw()
      await setTimeout(12_000)
      await load.progress(5)
      for (const violation of await probing.end()) violate(violation)
    },
  },
  {
    name: 'partition',
    title: 'the leader is cut off from etcd and the standbys, and not from Holdfast',
    async run({ cluster, load, violate }) {
      const old = await cluster.leader()
      old.isolate()
      // A commit on its way may have reached the standby before.
      const probing = probe(old)
      await cluster.newLeader(old)
      await load.progress(5)
      for (const violation of await probing.end()) violate(violation)
      old.rejoin()
    },
  },
]

/** The table that {@link scenarios} write to: a logged one, so that standbys confirm each row. */
export const probeTable =
  'create table rehearsal (id bigint generated always as identity, at timestamptz default now())'

/** Tries to write to a member until it is ended: no write may be answered. */
function probe(member: Member): { end(): Promise<string[]> } {
  const violations: string[] = []
  let ended = false
  const trying = (async () => {
    while (!ended) {
      const written = await write(member.url).catch(() => false)
      if (written) violations.push(`${member.name} has answered a write that it must refuse`)
      await setTimeout(50)
    }
  })()
  return {
    async end() {
      ended = true
      await trying
      return violations
    },
  }
}

async function write(connectionString: string): Promise<boolean> {
  const client = new pg.Client({
    connectionString,
    connectionTimeoutMillis: 2000,
    query_timeout: 2000,
  })
  // A connection that breaks while nothing is asked of it.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('insert into rehearsal default values')
    return true
  } finally {
    await client.end().catch(() => {})
  }
}
