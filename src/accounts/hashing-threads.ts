/**
 * Threads that hash passwords and do nothing else. An Argon2 hash keeps a core busy for tens of
 * milliseconds. On the threads that libuv shares among everything, hashes would keep names, files
 * and signatures waiting; and at the priority of the process, a flood of sign-ins would take half of
 * the machine from the clients that refresh their tokens.
 */
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import type { HashingJob, HashingResult } from './hashing-thread.ts'
import type { PasswordHashing } from './password.ts'

/** In the form that this file has. */
const program = new URL(`hashing-thread${path.extname(import.meta.url)}`, import.meta.url)

/**
 * Starts a thread, and another one whenever all are at work. How many there are is up to the caller,
 * by how much it asks for at once. They keep no process alive.
 */
export function createHashingThreads(): PasswordHashing & AsyncDisposable {
  const all = new Set<Worker>()
  const idle = new Set<Worker>()

  function start(): Worker {
    const worker = new Worker(program)
    worker.unref()
    // The call that waits for it rejects; of an idle one the next call starts another.
    worker.on('error', () => {})
    worker.on('exit', () => {
      all.delete(worker)
      idle.delete(worker)
    })
    all.add(worker)
    return worker
  }

  async function run(job: HashingJob): Promise<boolean | string> {
    const [worker = start()] = idle
    idle.delete(worker)
    const result = await resultOf(worker, job)
    idle.add(worker)
    if ('error' in result) throw result.error
    return result.value
  }

  idle.add(start())
  return {
    verify: async (passwordHash, password) => (await run({ passwordHash, password })) === true,
    hash: async (password, cost) => String(await run({ password, cost })),
    async [Symbol.asyncDispose]() {
      await Promise.all([...all].map((worker) => worker.terminate()))
    },
  }
}

/** Rejects when the thread ends before it is done. */
function resultOf(worker: Worker, job: HashingJob): Promise<HashingResult> {
  const { promise, resolve, reject } = Promise.withResolvers<HashingResult>()
  const ended = () => reject(new Error('a thread that hashes passwords has ended'))
  worker.once('message', resolve).once('error', reject).once('exit', ended)
  worker.postMessage(job)
  return promise.finally(() =>
    worker.off('message', resolve).off('error', reject).off('exit', ended),
  )
}
