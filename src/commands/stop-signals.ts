/**
 * Milliseconds in which a signal that comes again is the same one: a terminal and a service manager
 * signal every process of a group, and npm passes on what it gets.
 */
const sameSignalMs = 2000

/**
 * Listens for the signals that stop a server. `next` ends with the next one; one for which nothing
 * waits ends the process.
 */
export function listenForStop(): { next(): Promise<void> } {
  const heardAt = new Map<NodeJS.Signals, number>()
  let hear: (() => void) | undefined

  function onSignal(name: NodeJS.Signals): void {
    const now = performance.now()
    if (now - (heardAt.get(name) ?? Number.NEGATIVE_INFINITY) < sameSignalMs) return
    heardAt.set(name, now)
    if (hear) {
      hear()
      hear = undefined
      return
    }
    // Nothing waits for another signal: this one ends the process at once.
    process.off(name, onSignal)
    process.kill(process.pid, name)
  }

  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, onSignal)
  return {
    next: () =>
      new Promise((resolve) => {
        hear = resolve
      }),
  }
}
