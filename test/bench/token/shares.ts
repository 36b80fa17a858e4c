import type { Profiler } from 'node:inspector'
import { asTable } from '../../../src/commands/table.ts'

/** The folder of a script, as far as it says whose it is. */
function packageOf({ functionName, url }: { functionName: string; url: string }): string {
  if (url === '') return functionName.startsWith('(') ? functionName : 'V8 and native code'
  if (url.startsWith('node:')) return /^node:(?:internal\/)?([^/]+)/.exec(url)?.[0] ?? url
  const dependency = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]
  return dependency ?? /\/((?:src|packages)\/[^/]+)/.exec(url)?.[1] ?? 'benchmark'
}

/** Shares of the time that the process was not idle. */
function sharesOf(
  { nodes, samples = [], timeDeltas = [] }: Profiler.Profile,
  of: typeof packageOf,
) {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const times = new Map<string, number>()
  for (const [at, id] of samples.entries()) {
    const frame = frames.get(id)
    if (!frame || frame.functionName === '(idle)') continue
    if (frame.url === 'node:inspector') continue
    const name = of(frame)
    times.set(name, (times.get(name) ?? 0) + (timeDeltas[at] ?? 0))
  }
  const total = [...times.values()].reduce((sum, time) => sum + time, 0)
  return [...times].map(([name, time]) => ({ name, share: time / total })).sort(byShare)
}

const byShare = (one: { share: number }, other: { share: number }) => other.share - one.share

/** Where the time of a profile went, by package and by function. */
export function sharesReport(profile: Profiler.Profile): string {
  const rows = (of: typeof packageOf, most: number) =>
    sharesOf(profile, of)
      .slice(0, most)
      .map(({ name, share }) => [name, `${(share * 100).toFixed(1)} %`])
  const functionOf: typeof packageOf = (frame) => `${packageOf(frame)} ${frame.functionName}`
  return [
    asTable(['package', 'share'], rows(packageOf, 24)),
    asTable(['function', 'share'], rows(functionOf, 40)),
  ].join('\n')
}
