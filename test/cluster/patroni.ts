import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../src/net/free-port.ts'
import { type Link, openLink } from '../support/link.ts'
import { familyOf, type Program, signalAll, startProgram } from '../support/program.ts'
import { query } from '../support/query.ts'
import { findPrograms, ordinaryUser } from '../support/system-postgres.ts'
import { until } from '../support/until.ts'

const run = promisify(execFile)
const templates = new URL('../../docker/cluster/', import.meta.url)

const passwords = {
  SUPERUSER_PASSWORD: 'the superuser of a rehearsal',
  REPLICATION_PASSWORD: 'the replication of a rehearsal',
  REWIND_PASSWORD: 'the rewind of a rehearsal',
}
export const password = 'the-password-of-a-rehearsal'

/** A PostgreSQL server and the Patroni that rules it. */
export interface Member {
  readonly name: string
  /** A connection to it, whatever it is, past HAProxy and as Holdfast's user. */
  readonly url: string
  /** Ends both as a fault of the machine would. */
  kill(): Promise<void>
  start(): void
  /** Stops every process of both for a time, as a paused virtual machine is. */
  freeze(): void
  thaw(): void
  /** Cuts it off from etcd and the other members. HAProxy, and so Holdfast, still reach it. */
  isolate(): void
  rejoin(): void
}

/** One of the three that hold the cluster's state. */
export interface EtcdMember {
  kill(): Promise<void>
  start(): void
  isLeader(): Promise<boolean>
}

export interface PatroniCluster extends AsyncDisposable {
  readonly members: readonly Member[]
  readonly etcd: readonly EtcdMember[]
  /** Host and port of HAProxy, which leads to the primary. */
  readonly primary: string
  /** A database of Holdfast's, by the way of HAProxy. */
  createDatabase(name: string): Promise<string>
  leader(): Promise<Member>
  /** Resolves when another member than this one leads. */
  newLeader(old: Member): Promise<Member>
  /** Resolves when a leader has two standbys that stream from it, one of them synchronous. */
  isWhole(): Promise<void>
  /** Hands over to the synchronous standby, by `patronictl`. */
  switchOver(): Promise<void>
}

/** Which of the programs that a cluster consists of are not installed. */
export function missingPrograms(): string[] {
  const found = ['patroni', 'patronictl', 'etcd', 'etcdctl', 'haproxy'].filter(
    (name) => !findProgram(name),
  )
  return findPrograms() ? found : [...found, 'postgresql']
}

/** The path of a program of the system. */
export function findProgram(name: string): string | undefined {
  const folders = ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin']
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file))
}

/** A file of docker/cluster/ with `${NAME}` replaced by the variable's value. */
export async function fillTemplate(
  name: string,
  variables: Readonly<Record<string, string | number>>,
): Promise<string> {
  const text = await readFile(new URL(name, templates), 'utf8')
  return text.replace(/\$\{(\w+)\}/g, (_, key: string) => {
    if (!(key in variables)) throw new Error(`${name} asks for ${key}`)
    return String(variables[key])
  })
}

/**
 * Three etcd, three PostgreSQL under Patroni and one HAProxy, all on loopback, by the files of
 * docker/cluster/. What a member sends to etcd, and what others send to it, passes links that can
 * be silenced.
 *
 * @param folder for data and logs, which every user may enter: PostgreSQL does not run as root.
 */
export async function startPatroniCluster(folder: string): Promise<PatroniCluster> {
  await using opened = new AsyncDisposableStack()
  const etcd = await startEtcd(folder, opened)
  const members = await Promise.all(
    ['member-1', 'member-2', 'member-3'].map((name) =>
      createMember(name, { folder, etcd, opened }),
    ),
  )
  for (const { member } of members) member.start()
  const primary = await startPrimaryProxy(folder, members, opened)
  const cluster = watch({ etcd, primary, members })
  await cluster.isWhole()
  await createUser(primary)
  const open = opened.move()
  return { ...cluster, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

interface RunningEtcd extends EtcdMember {
  readonly port: number
}

async function startEtcd(
  folder: string,
  opened: AsyncDisposableStack,
): Promise<readonly RunningEtcd[]> {
  const places = await Promise.all(
    [1, 2, 3].map(async (at) => ({
      name: `etcd-${at}`,
      port: await freePort(),
      peer: `127.0.0.1:${await freePort()}`,
    })),
  )
  const peers = places.map(({ name, peer }) => `${name}=http://${peer}`).join(',')
  const all = await Promise.all(
    places.map(async ({ name, port, peer }): Promise<RunningEtcd> => {
      const address = `127.0.0.1:${port}`
      const file = path.join(folder, `${name}.yml`)
      await writeFile(
        file,
        await fillTemplate('etcd.conf.yml.template', {
          NAME: name,
          DATA: path.join(folder, name),
          CLIENT_ADDRESS: address,
          PEER_ADDRESS: peer,
          ETCD_PEERS: peers,
        }),
      )
      let program: Program | undefined
      opened.defer(() => program?.[Symbol.asyncDispose]())
      return {
        port,
        start() {
          const log = path.join(folder, `${name}.log`)
          program = startProgram('etcd', ['--config-file', file], { folder, log })
        },
        async kill() {
          await program?.end('SIGKILL')
        },
        async isLeader() {
          const status = await run('etcdctl', ['--endpoints', address, 'endpoint', 'status'], {
            env: { ...process.env, ETCDCTL_API: '3' },
          })
          // Endpoint, id, version, size, whether it leads.
          return status.stdout.split(', ')[4] === 'true'
        },
      }
    }),
  )
  for (const member of all) member.start()
  await until(async () => {
    const leads = await Promise.all(all.map((member) => member.isLeader().catch(() => false)))
    return leads.includes(true)
  })
  return all
}

interface PlacedMember {
  readonly member: Member
  readonly apiPort: number
  readonly postgresPort: number
  readonly file: string
}

async function createMember(
  name: string,
  {
    folder,
    etcd,
    opened,
  }: { folder: string; etcd: readonly RunningEtcd[]; opened: AsyncDisposableStack },
): Promise<PlacedMember> {
  const [apiPort, postgresPort] = [await freePort(), await freePort()]
  const link = async (port: number) => opened.use(await openLink(port))
  const [api, postgres] = [await link(apiPort), await link(postgresPort)]
  const toEtcd = await Promise.all(etcd.map(({ port }) => link(port)))
  const links: readonly Link[] = [api, postgres, ...toEtcd]

  const own = path.join(folder, name)
  const user = ordinaryUser()
  await mkdir(own, { mode: 0o700 })
  if (user.uid !== undefined && user.gid !== undefined) await chown(own, user.uid, user.gid)
  const file = path.join(folder, `${name}.yml`)
  const filled = await fillTemplate('patroni.yml.template', {
    ...passwords,
    NAME: name,
    API_ADDRESS: `127.0.0.1:${apiPort}`,
    API_CONNECT_ADDRESS: api.address,
    ETCD_HOSTS: toEtcd.map(({ address }) => address).join(','),
    CLIENT_NETWORK: '127.0.0.1/32',
    POSTGRES_ADDRESS: `127.0.0.1:${postgresPort}`,
    POSTGRES_CONNECT_ADDRESS: postgres.address,
    POSTGRES_PROGRAMS: findPrograms() ?? '',
    DATA: path.join(own, 'data'),
    FOLDER: own,
  })
  // Patroni would ask etcd for the addresses of its members, and reach them past the links.
  await writeFile(file, filled.replace('\netcd:\n', '\netcd:\n  use_proxies: true\n'))

  let patroni: Program | undefined
  const processes = () => [
    ...(patroni ? familyOf(patroni.pid) : []),
    ...familiesOf(path.join(own, 'data/postmaster.pid')),
  ]
  const killAll = () => {
    const all = processes()
    signalAll(all, 'SIGKILL')
  }
  process.once('exit', killAll)
  opened.defer(async () => {
    killAll()
    process.off('exit', killAll)
    await patroni?.[Symbol.asyncDispose]()
  })
  const member: Member = {
    name,
    url: `postgresql://holdfast:${password}@127.0.0.1:${postgresPort}/holdfast`,
    start() {
      const log = path.join(folder, `${name}.log`)
      patroni = startProgram('patroni', [file], { folder: own, log, user })
    },
    async kill() {
      killAll()
      await patroni?.end('SIGKILL')
    },
    freeze: () => signalAll(processes(), 'SIGSTOP'),
    thaw: () => signalAll(processes(), 'SIGCONT'),
    isolate() {
      for (const link of links) link.silence()
    },
    rejoin() {
      for (const link of links) link.restore()
    },
  }
  return { member, apiPort, postgresPort, file }
}

/** PostgreSQL's processes, by the file in which it keeps its id. */
function familiesOf(pidFile: string): number[] {
  if (!existsSync(pidFile)) return []
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0])
  return pid > 1 ? familyOf(pid) : []
}

async function startPrimaryProxy(
  folder: string,
  members: readonly PlacedMember[],
  opened: AsyncDisposableStack,
): Promise<string> {
  const primary = `127.0.0.1:${await freePort()}`
  const each = members.flatMap(({ apiPort, postgresPort }, at) => [
    [`MEMBER_${at + 1}_HOST`, '127.0.0.1'],
    [`MEMBER_${at + 1}_API_PORT`, String(apiPort)],
    [`MEMBER_${at + 1}_POSTGRES`, `127.0.0.1:${postgresPort}`],
  ])
  const file = new URL('haproxy.cfg', templates).pathname
  opened.use(
    startProgram(findProgram('haproxy') ?? '', ['-db', '-f', file], {
      folder,
      log: path.join(folder, 'haproxy.log'),
      env: { PRIMARY_BIND: primary, ...Object.fromEntries(each) },
    }),
  )
  return primary
}

const administer = (primary: string, text: string) => {
  const secret = encodeURIComponent(passwords.SUPERUSER_PASSWORD)
  return query(`postgresql://postgres:${secret}@${primary}/postgres`, text)
}

async function createUser(primary: string): Promise<void> {
  await until(() => administer(primary, 'select 1').then(Boolean, () => false))
  await administer(primary, `create role holdfast login password '${password}'`)
}

interface Seen {
  readonly name: string
  readonly role: string
  readonly state: string
}

function watch({
  etcd,
  primary,
  members,
}: {
  etcd: readonly RunningEtcd[]
  primary: string
  members: readonly PlacedMember[]
}): Omit<PatroniCluster, typeof Symbol.asyncDispose> {
  /** What a member that answers says of all of them. */
  async function look(asked = members): Promise<readonly Seen[]> {
    for (const { apiPort } of asked) {
      // One that is frozen accepts connections, and says nothing.
      const signal = AbortSignal.timeout(1000)
      const seen = await fetch(`http://127.0.0.1:${apiPort}/cluster`, { signal })
        .then((response) => response.json() as Promise<{ members?: Seen[] }>)
        .catch(() => undefined)
      if (seen?.members) return seen.members
    }
    return []
  }
  const leaderOf = async (asked = members) => {
    const { name } = (await look(asked)).find(({ role }) => role === 'leader') ?? {}
    return members.find(({ member }) => member.name === name)?.member
  }
  async function leader(): Promise<Member> {
    let found: Member | undefined
    await until(async () => {
      found = await leaderOf()
      return found !== undefined
    }, 60_000)
    return found as Member
  }
  return {
    primary,
    etcd,
    members: members.map(({ member }) => member),
    leader,
    async createDatabase(name) {
      await administer(primary, `create database ${name} owner holdfast`)
      return `postgresql://holdfast:${password}@${primary}/${name}`
    },
    async newLeader(old) {
      const others = members.filter(({ member }) => member !== old)
      let found: Member | undefined
      await until(async () => {
        found = await leaderOf(others)
        return found !== undefined && found !== old
      }, 60_000)
      return found as Member
    },
    isWhole: () =>
      until(async () => {
        const seen = await look()
        const running = seen.filter(({ state }) => state === 'running' || state === 'streaming')
        const roles = running.map(({ role }) => role).sort()
        return roles.join() === 'leader,replica,sync_standby'
      }, 80_000),
    async switchOver() {
      const seen = await look()
      const nameOf = (role: string) => seen.find((member) => member.role === role)?.name ?? ''
      const [{ file } = { file: '' }] = members
      await run('patronictl', [
        ...['-c', file, 'switchover', 'holdfast', '--force'],
        ...['--leader', nameOf('leader'), '--candidate', nameOf('sync_standby')],
      ])
    },
  }
}
