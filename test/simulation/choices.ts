/** Where a run takes its chances from: all that is random in it, so that a run can be made again. */
export interface Choices {
  /** A whole number from 0 to below `below`. */
  draw(below: number): number
  /** Begins the next step of the run: false when there is none. */
  next(): boolean
  /** What was drawn until now, by step. The first is before the first step. */
  readonly taken: Script
}

export type Script = readonly (readonly number[])[]

/** Choices by a seed (the generator is mulberry32). */
export function seeded(seed: number, { steps = 140 }: { steps?: number } = {}): Choices {
  let state = seed >>> 0
  let left = steps
  const random = (below: number) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
  return recorded(random, () => left-- > 0)
}

/** The choices of another run, or of some of its steps. Where there are none it is 0: nothing unusual. */
export function scripted(script: Script): Choices {
  let [step, at] = [0, 0]
  const draw = (below: number) => (script[step]?.[at++] ?? 0) % below
  return recorded(draw, () => {
    at = 0
    return ++step < script.length
  })
}

function recorded(draw: (below: number) => number, hasNext: () => boolean): Choices {
  const taken: number[][] = [[]]
  return {
    taken,
    draw(below) {
      const drawn = draw(below)
      taken.at(-1)?.push(drawn)
      return drawn
    },
    next() {
      if (!hasNext()) return false
      taken.push([])
      return true
    },
  }
}

/**
 * Leaves out the steps of a failing run that the failure does not need.
 *
 * @param fails whether a run by these choices fails in the same way.
 */
export async function shrink(
  taken: Script,
  fails: (script: Script) => Promise<boolean>,
  { tries = 1000 }: { tries?: number } = {},
): Promise<Script> {
  let best = taken
  let left = tries
  for (let size = Math.ceil(best.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = best.length - size; at > 0 && left > 0; at -= size) {
      left -= 1
      const without = [...best.slice(0, at), ...best.slice(at + size)]
      if (await fails(without)) best = without
    }
  }
  return best
}
