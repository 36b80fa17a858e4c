import test from 'ava'
import { answeredFields, passingFields } from '../../packages/gate/headers.ts'

test('passes on no field of a request that is for its connection', (t) => {
  const fields = ['Accept', 'text/html', 'X-Own', '1']
  const more = new Set(['x-own'])
  t.deepEqual(passingFields(fields, more), fields)
  const listed = [...fields, 'Connection', 'close, X-OWN']
  t.deepEqual(passingFields(listed, more), ['Accept', 'text/html'])
})

test('passes on no field of a response that is for its connection', (t) => {
  const fields = ['Content-Type', 'text/html', 'X-Own', '1']
  t.deepEqual(answeredFields(fields), fields)
  const listed = [...fields, 'connection', 'x-own', 'Keep-Alive', 'timeout=5']
  t.deepEqual(answeredFields(listed), ['Content-Type', 'text/html'])
})
