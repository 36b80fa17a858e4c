import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'
import { linkLibraries } from '../../src/storage/library-links.ts'
import { StorageError } from '../../src/storage/storage-error.ts'
import { useFolder } from '../support/folder.ts'

const isRoot = process.getuid?.() === 0

const root = useFolder(test)

async function makeFolder(name: string): Promise<string> {
  const made = path.join(root, name)
  await mkdir(made)
  return made
}

// Making a cluster takes longest by far: most tests use one after the other.
const folder = path.join(root, 'shared')
mkdirSync(folder)
const start = (options: Partial<Parameters<typeof startEmbeddedPostgres>[0]> = {}) =>
  startEmbeddedPostgres({ folder, disposable: true, ...options })

async function query<Row extends object>(
  { connectionString }: { connectionString: string },
  text: string,
): Promise<Row[]> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query<Row & pg.QueryResultRow>(text)).rows
  } finally {
    await client.end()
  }
}

const postmasterPid = async (data = folder) =>
  Number((await readFile(path.join(data, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])

/** A postmaster removes this file when it has stopped. */
async function isStopped(t: ExecutionContext, data = folder): Promise<void> {
  await t.throwsAsync(stat(path.join(data, 'postgres', 'postmaster.pid')), { code: 'ENOENT' })
}

test.serial('of two first starts at once one makes the cluster and both use it', async (t) => {
  const [one, other] = await Promise.all([start(), start()])
  t.is(one.connectionString, other.connectionString)
  t.deepEqual(await readdir(folder), ['postgres'])
  await Promise.all([one, other].map((postgres) => postgres[Symbol.asyncDispose]()))
  await isStopped(t)
})

test.serial('keeps its password from other users', async (t) => {
  const { mode } = await stat(path.join(folder, 'postgres', 'holdfast-password'))
  t.is(mode & 0o077, 0)
  t.is((await stat(path.join(folder, 'postgres'))).mode & 0o077, 0)
})

test.serial('listens on loopback only, and asks for the password there', async (t) => {
  await using postgres = await start()
  const [row] = await query<{ addresses: string; sockets: string }>(
    postgres,
    `select current_setting('listen_addresses') as addresses,
            current_setting('unix_socket_directories') as sockets`,
  )
  t.deepEqual(row, { addresses: '127.0.0.1', sockets: '' })
  const url = new URL(postgres.connectionString)
  url.password = 'wrong'
  await t.throwsAsync(query({ connectionString: url.href }, 'select 1'), { code: '28P01' })
})

test.serial('keeps its data over a restart', async (t) => {
  {
    await using postgres = await start()
    await query(postgres, 'create table kept (word text)')
    await query(postgres, "insert into kept values ('anchor')")
  }
  await isStopped(t)
  await using postgres = await start()
  t.deepEqual(await query(postgres, 'select word from kept'), [{ word: 'anchor' }])
})

test.serial('stops although connections were closed this very moment', async (t) => {
  const postgres = await start()
  const pool = new pg.Pool({ connectionString: postgres.connectionString, max: 10 })
  await Promise.all(Array.from({ length: 10 }, () => pool.query('select 1')))
  await pool.end()
  await postgres[Symbol.asyncDispose]()
  await isStopped(t)
})

test.serial('is joined when it runs, and the last one out stops it', async (t) => {
  const first = await start()
  const second = await start()
  t.is(first.connectionString, second.connectionString)
  await first[Symbol.asyncDispose]()
  t.deepEqual(await query(second, 'select 1 as one'), [{ one: 1 }])
  await second[Symbol.asyncDispose]()
  await isStopped(t)
})

test.serial('stops when all who use it leave at once', async (t) => {
  const all = await Promise.all([start(), start(), start()])
  await Promise.all(all.map((postgres) => postgres[Symbol.asyncDispose]()))
  await isStopped(t)
})

test.serial('starts again for one who comes while the last one leaves', async (t) => {
  const leaving = await start()
  const [coming] = await Promise.all([start(), leaving[Symbol.asyncDispose]()])
  t.deepEqual(await query(coming, 'select 1 as one'), [{ one: 1 }])
  await coming[Symbol.asyncDispose]()
  await isStopped(t)
})

test.serial('does not wait for a process that was killed while it used it', async (t) => {
  const module = new URL('../../src/storage/embedded-postgres.ts', import.meta.url)
  const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(module)}
    await startEmbeddedPostgres({ folder: ${JSON.stringify(folder)}, disposable: true })
    console.log('started')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  const postgres = await start()
  t.deepEqual(await query(postgres, 'select word from kept'), [{ word: 'anchor' }])
  // PostgreSQL hears of the end of a killed process a moment later.
  while ((await query(postgres, "select from pg_locks where locktype = 'advisory'")).length > 1);
  await postgres[Symbol.asyncDispose]()
  await isStopped(t)
})

test.serial('recovers after its postmaster was killed', async (t) => {
  const killed = await start({ disposable: false })
  await query(killed, "insert into kept values ('rope')")
  process.kill(await postmasterPid(), 'SIGKILL')
  await using postgres = await start()
  t.deepEqual(await query(postgres, 'select word from kept'), [
    { word: 'anchor' },
    { word: 'rope' },
  ])
  await t.notThrowsAsync(async () => killed[Symbol.asyncDispose]())
  t.is((await query(postgres, 'select 1')).length, 1)
})

test.serial('says where to look when it does not start', async (t) => {
  const version = path.join(folder, 'postgres', 'PG_VERSION')
  const text = await readFile(version, 'utf8')
  await writeFile(version, '9.6\n')
  const error = await t.throwsAsync(start(), { instanceOf: StorageError })
  await writeFile(version, text)
  t.is(error?.code, 'database_unusable')
  t.regex(error?.message ?? '', /server\.log/)
})

test('cannot use a folder below a file', async (t) => {
  const file = path.join(root, 'file')
  await writeFile(file, '')
  const error = await t.throwsAsync(start({ folder: path.join(file, 'data') }), {
    instanceOf: StorageError,
  })
  t.is(error?.code, 'data_folder_unusable')
})

test('makes the links that an install script would have made', async (t) => {
  const installed = await makeFolder('installed')
  const links = [{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }]
  await mkdir(path.join(installed, 'native'))
  await writeFile(path.join(installed, 'native/pg-symlinks.json'), JSON.stringify(links))
  const error = await t.throwsAsync(linkLibraries(installed), { instanceOf: StorageError })
  t.is(error?.code, 'database_unusable')
  t.regex(error?.message ?? '', /^The embedded .* not completely installed.* set DATABASE_URL/)

  await mkdir(path.join(installed, 'native/lib'))
  await Promise.all([linkLibraries(installed), linkLibraries(installed)])
  t.is(await readlink(path.join(installed, 'native/lib/libpq.so.5')), 'libpq.so.5.18')
})

const testAsOrdinaryUser = isRoot ? test.skip : test

testAsOrdinaryUser('cannot use a folder that it may not write', async (t) => {
  const locked = await makeFolder('locked')
  await chmod(locked, 0o500)
  const error = await t.throwsAsync(start({ folder: locked }), { instanceOf: StorageError })
  t.is(error?.code, 'data_folder_unusable')
  t.regex(error?.message ?? '', /EACCES.*HOLDFAST_DATA/)
})

const testAsRoot = isRoot ? test : test.skip

testAsRoot('serves root from a folder that the postgres user cannot enter', async (t) => {
  const hidden = await makeFolder('hidden')
  await chmod(hidden, 0o700)
  const data = path.join(hidden, 'data')
  await mkdir(data)
  const users = await readFile('/etc/passwd', 'utf8')
  const notices: string[] = []
  {
    await using postgres = await start({
      folder: data,
      onNotice: (sentence) => notices.push(sentence),
    })
    t.regex(notices.at(-1) ?? '', /does not run as root: it runs as the user (postgres|nobody)\.$/)
    t.is(await readFile('/etc/passwd', 'utf8'), users)
    const { uid } = await stat(await realpath(path.join(data, 'postgres')))
    t.not(uid, 0)
    t.deepEqual(await query(postgres, 'select 1 as one'), [{ one: 1 }])
  }
  await isStopped(t, data)
  await rm(await realpath(path.join(data, 'postgres')), { recursive: true })
})
