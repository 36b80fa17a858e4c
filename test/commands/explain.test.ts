import test from 'ava'
import pg from 'pg'
import { explain } from '../../src/commands/command.ts'
import { DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'

test('a database that goes away while a command works is told in a sentence', (t) => {
  const error = new DatabaseUnavailableError(new Error('Connection terminated unexpectedly'))
  t.is(
    explain(error),
    'The database does not answer now (Connection terminated unexpectedly). Try again in a moment.',
  )
})

test('what the user of the database may not do is told, and other errors of it are defects', (t) => {
  const error = new pg.DatabaseError('permission denied for table accounts', 0, 'error')
  t.is(explain(Object.assign(error, { code: '42703' })), undefined)
  t.is(
    explain(Object.assign(error, { code: '42501' })),
    'PostgreSQL denied this to the user in DATABASE_URL: permission denied for table accounts.',
  )
})
