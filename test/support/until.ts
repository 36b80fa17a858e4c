import { setTimeout } from 'node:timers/promises'

/** Waits for a condition that nothing tells of; gives up after 20 seconds, or as many as it is told. */
export async function until(holds: () => Promise<boolean>, patienceMs = 20_000): Promise<void> {
  const deadline = Date.now() + patienceMs
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${holds}`)
    await setTimeout(50)
  }
}
