import { attackApi } from './gate-api-steps.ts'
import { attackConnection } from './gate-connection-steps.ts'
import type { GateFixtures } from './gate-fixtures.ts'
import {
  askForMore,
  endEverywhere,
  restartGate,
  signInThroughGate,
  stealJar,
} from './gate-people-steps.ts'
import type { Runner } from './steps.ts'

/**
 * The gate's story: people and a program use three applications through the gate, and thieves have
 * the cookies, the token, the proofs, and every byte between the gate and the applications.
 */
export async function runGateScenario(fixtures: GateFixtures, runner: Runner): Promise<void> {
  const page = await fixtures.context.newPage()
  const part = { fixtures, runner, page }
  await signInThroughGate(part)
  await stealJar(part)
  await askForMore(part)
  const usedRequest = await attackApi(part)
  await attackConnection(part)
  await restartGate(part, usedRequest)
  await endEverywhere(part)
}

/** What the rows with a thief and `accept` mean. */
export function whatStillWorks(windowS: number): string {
  return `
What still works, and why:
- A copy of all cookies works until the proof of the browser's key ends: ${windowS} seconds here, ten
  minutes by default (proofS).
- A thief who keeps a request from its application can deliver it instead of the gate: unchanged,
  once, and within seconds (signing.lifetimeS). TLS between the two prevents it.
- An old application believes every request. A program on its machine can call it past the gate.
  The gate therefore accepts such an application (mode: plain) on loopback or by mutual TLS only.
- A thief of the device has its keys. On Linux, Chromium keeps them in a file.`
}
