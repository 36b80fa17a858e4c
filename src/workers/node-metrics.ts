import { AggregatorRegistry, Counter, Gauge, Registry } from 'prom-client'
import type { WorkerProcess } from './worker-process.ts'

type Samples = Awaited<ReturnType<Registry['getMetricsAsJSON']>>

/** Milliseconds that a worker has to tell its metrics: what it told last is shown otherwise. */
const patienceMs = 2_000

export interface NodeMetrics {
  /** Everything that the workers count, as one node, as Prometheus reads it. */
  text(): Promise<string>
  /** Keeps what a worker has counted that ended: a sum that went down would count twice. */
  ended(worker: WorkerProcess): void
}

/**
 * The metrics of a node of several processes. What a worker counted after the last time that someone
 * asked ends with it: nobody has seen that.
 */
export function createNodeMetrics(serving: () => readonly WorkerProcess[]): NodeMetrics {
  const own = new Registry()
  const registers = [own]
  const ends = new Counter({
    name: 'holdfast_worker_ends_total',
    help: 'Workers of this node that ended unasked, and were replaced',
    registers,
  })
  new Gauge({
    name: 'holdfast_workers',
    help: 'Workers of this node that serve now',
    registers,
    collect() {
      this.set(serving().length)
    },
  })
  const last = new Map<WorkerProcess, Samples>()
  /** What those that have ended had counted. */
  let past: Promise<Samples> = Promise.resolve([])

  async function of(worker: WorkerProcess): Promise<Samples> {
    const told = await worker.ask('metrics', patienceMs).catch(() => undefined)
    // It may have ended meanwhile, and is among the past ones then.
    if (!serving().includes(worker)) return []
    if (told) last.set(worker, told as Samples)
    return last.get(worker) ?? []
  }

  return {
    async text() {
      const all = await Promise.all(serving().map(of))
      return combine([await own.getMetricsAsJSON(), await past, ...all]).metrics()
    },
    ended(worker) {
      ends.inc()
      const counted = (last.get(worker) ?? []).filter(({ type }) => isCount(type))
      last.delete(worker)
      past = past.then((before) => combine([before, counted]).getMetricsAsJSON())
    },
  }
}

function combine(samples: readonly Samples[]): Registry {
  return AggregatorRegistry.aggregate([...samples])
}

/** The types say numbers, and the library has words. */
const isCount = (type: unknown) => type === 'counter' || type === 'histogram'
