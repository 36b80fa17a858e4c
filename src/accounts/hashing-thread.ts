// One of the threads that hash passwords: see hashing-threads.ts.
import os from 'node:os'
import { parentPort } from 'node:worker_threads'
import { hashPasswordSync, type PasswordCost, verifyPasswordSync } from './password.ts'

/** To check a password, or to hash one. */
export type HashingJob =
  | { readonly password: string; readonly passwordHash: string }
  | { readonly password: string; readonly cost: PasswordCost }

export type HashingResult = { readonly value: boolean | string } | { readonly error: unknown }

/** Of a core that others want as well, a thread with this much less than they have gets a quarter. */
const lowerPriority = 5

/** The priority of a thread is its own on Linux only: elsewhere it is that of the whole process. */
if (process.platform === 'linux') os.setPriority(Math.min(19, os.getPriority() + lowerPriority))

parentPort?.on('message', (job: HashingJob) => parentPort?.postMessage(run(job)))

function run(job: HashingJob): HashingResult {
  try {
    return {
      value:
        'cost' in job
          ? hashPasswordSync(job.password, job.cost)
          : verifyPasswordSync(job.passwordHash, job.password),
    }
  } catch (error) {
    return { error }
  }
}
