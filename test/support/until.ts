import { setTimeout } from 'node:timers/promises'

/** Waits for a condition that nothing tells of; gives up after 20 seconds. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${holds}`)
    await setTimeout(50)
  }
}
