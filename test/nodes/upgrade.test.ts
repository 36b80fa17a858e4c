// Nodes of two releases on one database: this release, and one with a migration more.
import { execFile } from 'node:child_process'
import { symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import test, { type TestFn } from 'ava'
import { openTestDatabase } from '../support/database.ts'
import { type FleetNode, startFleet } from '../support/fleet.ts'
import { useFolder } from '../support/folder.ts'
import { startLoad } from '../support/load.ts'
import { testWith } from '../support/proxies.ts'
import { query } from '../support/query.ts'

const run = promisify(execFile)
const folder = useFolder(test)
const nodesTest = testWith(test as TestFn, 'haproxy')

/** What a release may do to a schema that another one is serving from. */
const expand = `
  create table later (id int primary key);
  alter table artifacts add column later text, add column sooner text not null default 'x';
  alter table accounts add column later text;
  alter table clients add column later text;
  create index artifacts_later on artifacts (later) where later is not null;
`

async function makeNextRelease(): Promise<string> {
  const release = path.join(folder, 'next')
  await run('mkdir', [release])
  await run('cp', ['-r', 'bin', 'src', 'migrations', 'package.json', release])
  await symlink(path.resolve('node_modules'), path.join(release, 'node_modules'))
  await writeFile(path.join(release, 'migrations/9999_later.sql'), expand)
  return release
}

nodesTest('nodes of two releases serve side by side, and nobody notices', async (t) => {
  await using database = await openTestDatabase()
  await using fleet = await startFleet({ databaseUrl: database.url, count: 2 })
  const [first, second] = fleet.nodes as [FleetNode, FleetNode]
  const release = await makeNextRelease()
  const load = startLoad(fleet, { workers: 4 })
  const replace = async (node: FleetNode) => {
    await node.end('SIGTERM')
    await node.start(release)
    await load.progress(8)
  }
  await load.progress(8)

  // It migrates while the second node, of this release, serves from the same tables.
  await replace(first)
  const [last] = await query(database.url, 'select name from knex_migrations order by id desc')
  t.is(last?.name, '9999_later.sql')
  t.true(await second.isReady())

  await replace(second)
  await load.stop()
  t.deepEqual(load.judge(), [])
  t.deepEqual(
    [...load.answers.keys()].filter((status) => !/^(200|302|303|400)$/.test(status)),
    [],
  )

  await second.end('SIGKILL')
  await t.throwsAsync(second.start(), { message: /schema is newer than this release.*9999_later/s })
})
