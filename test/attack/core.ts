/** The attack table against the verifier alone, for versions of Node that run no TypeScript. */
import { core } from '../support/verify/core-adapter.ts'
import { passed, runTable } from './run-table.ts'

const results = await runTable('core', core)
const wrong = results.filter((result) => !passed(result))
process.stdout.write(JSON.stringify({ node: process.version, rows: results.length, wrong }))
