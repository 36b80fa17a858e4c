/**
 * A reverse proxy that verifies key-bound tokens and forwards requests that stay bound.
 *
 * @module
 */

export { keySetPath } from './admit.ts'
export { type Config, ConfigError, parseConfig } from './config.ts'
export type { GateEvent, GateEventListener } from './events.ts'
export { createGate, type Gate, type GateOptions } from './gate.ts'
export { type Listening, listen } from './listener.ts'
export { type Loaded, loadConfig, readKey } from './load.ts'
export { runProgram, type Terminal } from './program.ts'
export { Refusal, type RefusalCode, refusalCodes } from './refusal.ts'
export { type RunningGate, type RunOptions, runGate } from './running.ts'
