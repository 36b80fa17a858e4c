import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import type { Times } from './result.ts'

const milliseconds = (us: number) => Math.round(us / 100) / 10

/** Records latencies in milliseconds. */
export function createTimes() {
  const histogram: RecordableHistogram = createHistogram()
  return {
    record: (ms: number) => histogram.record(Math.max(1, Math.round(ms * 1000))),
    summary(): Times {
      const { count } = histogram
      if (count === 0) return { count, p50_ms: null, p99_ms: null, max_ms: null }
      const [p50, p99] = [histogram.percentile(50), histogram.percentile(99)]
      return {
        count,
        p50_ms: milliseconds(p50),
        p99_ms: milliseconds(p99),
        max_ms: milliseconds(histogram.max),
      }
    },
  }
}
