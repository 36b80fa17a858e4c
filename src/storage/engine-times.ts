/*
 * The engine reads the clock of its node and takes no other. What ends is decided by the clock of the
 * database, which all nodes share: rows and sealed state have its times, and the engine is handed the
 * same times by the clock that it reads. A node whose clock is wrong neither keeps alive what has
 * ended nor ends what is alive.
 */

/** Clocks that differ by less count as one: an estimate that wavers moves nothing to and fro. */
const toleranceS = 2

export interface EngineTimes {
  /** Milliseconds since the epoch, by the clock of the database. */
  now(): number
  /** Seconds since the epoch, by the clock that the engine reads. */
  engineNowS(): number
  /** Seconds by which the clock that the engine reads is ahead of the database's. */
  aheadS(): number
  /** What the engine is handed of a stored payload. */
  toEngine<Payload extends object>(payload: Payload): Payload
  /** What is stored of a payload of the engine. */
  toDatabase<Payload extends object>(payload: Payload): Payload
}

/** Members of payloads that are seconds since the epoch. */
const times = ['iat', 'exp', 'iiat', 'authTime', 'loginTs', 'consumed'] as const

/**
 * Translates between the clock of the database and that of the node, which the engine reads.
 *
 * @param now milliseconds since the epoch, by the clock of the database.
 * @param nodeNow milliseconds since the epoch, by the clock of the node.
 */
export function createEngineTimes({
  now,
  nodeNow = Date.now,
}: {
  now: () => number
  nodeNow?: () => number
}): EngineTimes {
  let ahead = 0
  const aheadS = () => {
    const measured = (nodeNow() - now()) / 1000
    if (Math.abs(measured - ahead) > toleranceS) ahead = Math.round(measured)
    return ahead
  }
  return {
    now,
    aheadS,
    engineNowS: () => Math.floor(nodeNow() / 1000),
    toEngine: (payload) => moved(payload, aheadS()),
    toDatabase: (payload) => moved(payload, -aheadS()),
  }
}

function moved<Payload extends object>(payload: Payload, seconds: number): Payload {
  if (seconds === 0) return payload
  const numbers = times.flatMap((name) => {
    const value = (payload as Partial<Record<string, unknown>>)[name]
    return typeof value === 'number' ? [[name, value + seconds]] : []
  })
  return { ...payload, ...Object.fromEntries(numbers) }
}
