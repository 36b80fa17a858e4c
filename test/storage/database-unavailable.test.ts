import test from 'ava'
import { asUnavailable, DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'

const failing = (message: string, code?: string) => Object.assign(new Error(message), { code })

const passing = [
  failing('connect ECONNREFUSED 127.0.0.1:5432', 'ECONNREFUSED'),
  failing('Connection terminated unexpectedly'),
  failing('Connection terminated due to connection timeout'),
  failing('timeout exceeded when trying to connect'),
  failing('Query read timeout'),
  failing('connection failure', '08006'),
  failing('sorry, too many clients already', '53300'),
  failing('terminating connection due to administrator command', '57P01'),
  failing('the database system is starting up', '57P03'),
  failing('cannot execute INSERT in a read-only transaction', '25006'),
  failing('cannot access temporary or unlogged relations during recovery', '0A000'),
]

for (const error of passing) {
  test(`passes: ${error.message}`, (t) => {
    const thrown = asUnavailable(error)
    t.true(thrown instanceof DatabaseUnavailableError)
    t.is((thrown as Error).cause, error)
  })
}

const staying = [
  failing('duplicate key value violates unique constraint', '23505'),
  failing('syntax error', '42601'),
  failing('permission denied for table clients', '42501'),
  failing('invalid byte sequence for encoding "UTF8": 0x00', '22021'),
  failing('bound to fail'),
]

for (const error of staying) {
  test(`stays what it is: ${error.message}`, (t) => {
    t.is(asUnavailable(error), error)
  })
}
