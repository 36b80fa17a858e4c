import { readFile } from 'node:fs/promises'
import { Pool } from 'undici'

export { median } from '../token/measure.ts'

/** Milliseconds of CPU of whole processes, read from Linux's `/proc`. */
export async function cpuMs(pids: readonly number[]): Promise<number> {
  let sum = 0
  for (const pid of pids) {
    // After the name in parentheses, which may have spaces: fields 14 and 15 of proc(5).
    const [, rest = ''] = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(/\) /)
    const fields = rest.split(' ')
    sum += (Number(fields[11]) + Number(fields[12])) * 10
  }
  return sum
}

/** Megabytes of memory that a process has now. */
export async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024)
}

const concurrency = 32

/** Sends one request for each set of headers, thirty-two at a time. */
export async function load(
  origin: string,
  prepared: readonly Record<string, string>[],
): Promise<{ seconds: number; p99Ms: number }> {
  const pool = new Pool(origin, { connections: concurrency })
  const times: number[] = []
  let next = 0
  async function work() {
    for (let headers = prepared[next++]; headers !== undefined; headers = prepared[next++]) {
      const beganMs = performance.now()
      const { statusCode, body } = await pool.request({ method: 'GET', path: '/', headers })
      const text = await body.text()
      if (statusCode !== 200) throw new Error(`${origin} answered ${statusCode}: ${text}`)
      times.push(performance.now() - beganMs)
    }
  }
  const beganMs = performance.now()
  await Promise.all(Array.from({ length: concurrency }, work))
  const seconds = (performance.now() - beganMs) / 1000
  await pool.close()
  times.sort((a, b) => a - b)
  return { seconds, p99Ms: times[Math.floor(times.length * 0.99)] ?? Number.NaN }
}
