import { generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createTokenBindingVerifier } from '../../packages/verify/token-binding.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { binding, makeEcKey, message } from '../support/token-binding-messages.ts'

/*
 * What checking a Token Binding message costs, in units of one bare ECDSA verification. CPU time of
 * the process, the candidates taking turns in short rounds, medians over the rounds: the ratios
 * hold on a machine that others use as well.
 *
 * npm run bench:token-binding -- [--json] [--rounds N]
 */

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '61' },
  },
})
const rounds = Number(values.rounds)
const perRound = 250

const key = makeEcKey()
const connections = Array.from({ length: perRound }, () => {
  const ekm = randomBytes(32)
  return {
    negotiated: 'ecdsap256',
    ekm,
    values: [message(binding(key, { signedEkm: ekm }))],
  } as const
})

// The bare verification gets what it likes best: an imported key and a signature in DER.
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const signatures = connections.map(({ ekm }) => {
  const signed = Buffer.concat([Buffer.of(0, 2), ekm])
  return { signed, signature: sign('sha256', signed, privateKey) }
})

const sameConnection = createTokenBindingVerifier(connections[0] ?? fail())
const sameMessage = connections[0]?.values

interface Candidate {
  readonly repeat: number
  readonly prepare?: () => void
  readonly run: () => void
}

/** Each runs `perRound` operations, `repeat` times over. */
const candidates: Record<string, Candidate> = {
  'bare verify': {
    repeat: 1,
    run() {
      for (const { signed, signature } of signatures) {
        if (!verify('sha256', signed, publicKey, signature)) fail()
      }
    },
  },
  'new connection, known key': {
    repeat: 1,
    run() {
      for (const connection of connections) {
        if (!createTokenBindingVerifier(connection)(connection.values)) fail()
      }
    },
  },
  'same connection, same message': {
    repeat: 200,
    run() {
      for (let index = 0; index < perRound; index += 1) {
        if (!sameConnection(sameMessage)) fail()
      }
    },
  },
}

// By itself and last: making the keys leaves garbage, which the others must not pay for.
let strangers = connections
const newKey: Record<string, Candidate> = {
  'new connection, new key': {
    repeat: 1,
    prepare() {
      strangers = connections.map(({ negotiated, ekm }) => {
        return { negotiated, ekm, values: [message(binding(makeEcKey(), { signedEkm: ekm }))] }
      })
    },
    run() {
      for (const connection of strangers) {
        if (!createTokenBindingVerifier(connection)(connection.values)) fail()
      }
    },
  },
}

function fail(): never {
  throw new Error('a valid message was refused')
}

const warmUp = 12
async function measure(group: Record<string, Candidate>, samples: Map<string, number[]>) {
  for (let round = -warmUp; round < rounds; round += 1) {
    const names = Object.keys(group).join(', ')
    progress.report(names, round + warmUp, rounds + warmUp)
    // The rounds themselves let nothing else happen.
    await setImmediate()
    for (const [name, { repeat, prepare, run }] of Object.entries(group)) {
      prepare?.()
      const before = process.cpuUsage()
      for (let turn = 0; turn < repeat; turn += 1) run()
      const { user, system } = process.cpuUsage(before)
      const taken = samples.get(name) ?? []
      samples.set(name, taken)
      if (round >= 0) taken.push((user + system) / repeat / perRound)
    }
  }
}

const samples = new Map<string, number[]>()
drawProgressOn(values.json ? undefined : process.stderr)
const progress = showProgress()
await measure(candidates, samples)
await measure(newKey, samples)
progress.rest()

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

const bare = median(samples.get('bare verify') ?? [])
const rows = [...samples].map(([name, taken]) => {
  const microseconds = median(taken)
  return {
    name,
    microseconds: Number(microseconds.toFixed(3)),
    /** How much of its time is the signature itself; 1 is as good as it can be. */
    efficiency: Number((bare / microseconds).toFixed(3)),
    /** Its cost as a share of one bare verification. */
    share: Number((microseconds / bare).toFixed(4)),
  }
})

if (values.json) console.log(JSON.stringify({ rounds, perRound, rows }))
else console.table(rows)
