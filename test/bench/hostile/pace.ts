/**
 * Calls `begin` so many times a second, whatever becomes of the calls before: a server that is slow
 * gets no rest. `dueMs` is the time for which the call was due, by `performance.now()`.
 *
 * @returns what ends it.
 */
export function keepPace(perSecond: number, begin: (dueMs: number) => void): () => void {
  const started = performance.now()
  let begun = 0
  const timer = setInterval(() => {
    const due = ((performance.now() - started) / 1000) * perSecond
    for (; begun < due; begun += 1) begin(started + (begun / perSecond) * 1000)
  }, 5)
  return () => clearInterval(timer)
}
