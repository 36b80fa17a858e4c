import test from 'ava'
import {
  type AuthorizationDetail,
  areWithin,
  detailLines,
  detailProblem,
  readDetails,
} from '../../src/authorization-details/authorization-details.ts'
import { detailsTypes } from '../../src/authorization-details/details-type.ts'
import type { DetailsType } from '../../src/storage/details-type-table.ts'

const type: DetailsType = {
  label: 'Make a payment',
  members: {
    actions: { kind: 'string', list: true, values: ['initiate', 'cancel'] },
    amount: {
      kind: 'object',
      label: 'Amount',
      required: true,
      members: {
        value: { kind: 'string', required: true, maxLength: 10 },
        currency: { kind: 'string', label: 'Currency' },
      },
    },
    days: { kind: 'integer' },
    express: { kind: 'boolean', label: 'Express' },
    note: { kind: 'object', members: { text: { kind: 'string' } } },
  },
}
const payment = {
  type: 'payment',
  actions: ['initiate', 'cancel'],
  amount: { value: '45.00', currency: 'EUR' },
  days: 3,
  express: true,
} as const satisfies AuthorizationDetail

test('reads a list of details', (t) => {
  t.deepEqual(readDetails(JSON.stringify([payment])), [payment])
})

const unreadable: Record<string, string> = {
  'an object': '{"type":"payment"}',
  'an empty list': '[]',
  'no JSON': '[{]',
  'a string in the list': '["payment"]',
  'an object without a type': '[{"actions":["initiate"]}]',
  'a type that is a number': '[{"type":1}]',
  'an empty type': '[{"type":""}]',
  'a member twice': '[{"type":"payment","to":"Ada","to":"Eve"}]',
  'a detail twice': '[{"type":"a","b":1},{"b":1,"type":"a"}]',
  'too many': JSON.stringify(Array.from({ length: 11 }, (_, at) => ({ type: `t${at}` }))),
  'too many bytes': JSON.stringify([{ type: 'payment', to: 'a'.repeat(4097) }]),
}
for (const [what, text] of Object.entries(unreadable)) {
  test(`rejects ${what} as authorization_details`, (t) => {
    t.is(typeof readDetails(text), 'string')
  })
}

test('accepts a detail that fits its type', (t) => {
  t.is(detailProblem(payment, type), undefined)
  t.is(detailProblem({ type: 'payment', amount: { value: '1' } }, type), undefined)
})

const unfit: Record<string, object> = {
  'an unknown member': { creditor: 'Eve' },
  'a member of every object': { constructor: 'Eve' },
  'a missing member': { amount: undefined },
  'a missing member of an object': { amount: { currency: 'EUR' } },
  'an unknown member of an object': { amount: { value: '1', tip: '2' } },
  'an object in the place of a string': { amount: { value: {} } },
  'an empty object': { amount: {} },
  'an empty object of which nothing is required': { note: {} },
  'a list in the place of an object': { amount: [{ value: '1' }] },
  'a string in the place of a list': { actions: 'initiate' },
  'an empty list': { actions: [] },
  'too long a list': { actions: Array.from({ length: 21 }, () => 'initiate') },
  'another value': { actions: ['refund'] },
  null: { days: null },
  'a string in the place of a number': { days: '3' },
  'a fraction': { days: 0.5 },
  'a number that readers round': { days: 2 ** 53 },
  'a number in the place of a boolean': { express: 1 },
  'a long string': { amount: { value: '1'.repeat(11) } },
  'a string of two lines': { amount: { value: '1\n2' } },
  'a string that turns text around': { amount: { value: '\u202e54' } },
}
for (const [what, changes] of Object.entries(unfit)) {
  test(`rejects a detail with ${what}`, (t) => {
    t.is(typeof detailProblem({ ...payment, ...changes }, type), 'string')
  })
}

test('compares details with those that were granted', (t) => {
  const within = (changes: object) => areWithin([{ ...payment, ...changes }], [payment])
  t.true(within({}))
  t.true(within({ actions: ['cancel'] }))
  t.false(within({ actions: [] }))
  t.false(within({ actions: undefined }))
  t.false(within({ actions: ['cancel', 'refund'] }))
  t.false(within({ amount: { value: '46.00', currency: 'EUR' } }))
  t.false(within({ days: undefined }))
  t.false(within({ type: 'other' }))
  const exact = { type: 'a', excluded: ['x', 'y'] }
  t.false(areWithin([{ ...exact, excluded: ['x'] }], [exact]))
  t.false(areWithin([payment, exact], [payment]))
})

test('puts every member of a detail on a line', (t) => {
  t.deepEqual(detailLines(payment, type), [
    { labels: ['actions'], value: 'initiate' },
    { labels: ['actions'], value: 'cancel' },
    { labels: ['Amount', 'value'], value: '45.00' },
    { labels: ['Amount', 'Currency'], value: 'EUR' },
    { labels: ['days'], value: '3' },
    { labels: ['Express'], value: true },
  ])
})

test('accepts the description of a type', (t) => {
  t.deepEqual(detailsTypes.parse({ payment: type }), { payment: type })
})

const nested = (member: object) => ({ kind: 'object', members: { a: member } })
const badTypes: Record<string, object> = {
  'no label': { payment: { members: {} } },
  'a label of two lines': { payment: { ...type, label: 'a\nb' } },
  'an unknown kind': { payment: { ...type, members: { a: { kind: 'number' } } } },
  'an unknown rule': { payment: { ...type, members: { a: { kind: 'string', pattern: '.' } } } },
  'a member type': { payment: { ...type, members: { type: { kind: 'string' } } } },
  'values of a number': {
    payment: { ...type, members: { a: { kind: 'integer', values: ['1'] } } },
  },
  'deep objects': {
    payment: { ...type, members: { a: nested(nested(nested({ kind: 'string' }))) } },
  },
  'a name with a space': { 'a payment': type },
  'too many types': Object.fromEntries(Array.from({ length: 21 }, (_, at) => [`t${at}`, type])),
}
for (const [what, types] of Object.entries(badTypes)) {
  test(`rejects types with ${what}`, (t) => {
    t.false(detailsTypes.safeParse(types).success)
  })
}
