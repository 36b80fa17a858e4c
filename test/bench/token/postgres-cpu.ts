import { readFile } from 'node:fs/promises'
import pg from 'pg'

/** The CPU of PostgreSQL's processes, read from Linux's `/proc`: no other system is measured. */
export async function openPostgresMeter(connectionString: string) {
  const client = new pg.Client({ connectionString })
  await client.connect()
  const read = async (): Promise<Map<number, number>> => {
    const { rows } = await client.query<{ pid: number }>(
      'select pid from pg_stat_activity where pid <> pg_backend_pid()',
    )
    return new Map(await Promise.all(rows.map(async ({ pid }) => [pid, await cpuOf(pid)] as const)))
  }
  let last = await read()
  return {
    /** Microseconds of CPU of all backends and writers since the last call. */
    async lap(): Promise<number> {
      const now = await read()
      let spent = 0
      for (const [pid, cpu] of now) spent += cpu - (last.get(pid) ?? 0)
      last = now
      return spent
    },
    [Symbol.asyncDispose]: () => client.end(),
  }
}

/** Microseconds; 0 for a process that has just ended. */
async function cpuOf(pid: number): Promise<number> {
  const schedstat = await readFile(`/proc/${pid}/schedstat`, 'utf8').catch(() => '0')
  return Number(schedstat.split(' ')[0]) / 1000
}
