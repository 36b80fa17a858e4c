/**
 * How an API describes a type of authorization details (RFC 9396): its members, and what people read
 * of them. It is data, so that what a request may send and what the consent page shows are one thing.
 */
import { z } from 'zod'
import { displayNameSchema, isDisplayName } from '../net/display-name.ts'

/** Bytes of all types of an API together, as JSON. */
export const typesLimitBytes = 16 * 1024

/** Characters of a label, and of a string of a request at most. */
const labelLimit = 120
const stringLimit = 500

const label = z
  .string()
  .refine((text) => isDisplayName(text, labelLimit), 'is not a text that people can read')
  .meta(displayNameSchema(labelLimit))

/** Shown where it has no label: visible ASCII without quotes and backslashes. */
const memberName = z
  .string()
  .regex(/^[A-Za-z0-9_.:@#$-]{1,60}$/)
  .refine((name) => name !== '__proto__' && name !== 'type', 'is not a name of a member')

const common = {
  label: label.describe('Shown at consent in place of the name of the member').optional(),
  list: z.boolean().describe('Whether the value is a list of those').optional(),
  required: z.boolean().optional(),
}

const text = z.strictObject({
  ...common,
  kind: z.literal('string'),
  values: z.array(label).min(1).max(50).describe('The only values').optional(),
  maxLength: z.int().min(1).max(stringLimit).describe('Characters; 200 if left out').optional(),
})
const plain = z.strictObject({ ...common, kind: z.enum(['integer', 'boolean']) })

/** Objects within objects, as far as people can follow. */
function objectOf<Member extends z.ZodType>(member: Member) {
  const members = z
    .record(memberName, member)
    .refine((all) => Object.keys(all).length <= 30, 'has more than 30 members')
  return z.strictObject({ ...common, kind: z.literal('object'), members })
}

const innermost = z.union([text, plain])
const inner = z.union([text, plain, objectOf(innermost)])
const member = z.union([text, plain, objectOf(inner)])

/** A type: what people are asked to allow, and the members that a request may have. */
const detailsType = z.strictObject({
  label: label.describe('What people are asked to allow, as a sentence'),
  remember: z
    .boolean()
    .describe('Whether consent that was given before counts for the same details again')
    .optional(),
  members: objectOf(member).shape.members,
})

/** RFC 9396 section 2: a name or a URI. */
const typeName = z.string().regex(/^[!#-[\]-~]{1,200}$/)

/** The types of one API, by name. */
export const detailsTypes = z
  .record(typeName, detailsType)
  .refine((types) => Object.keys(types).length <= 20, 'has more than 20 types')
  .refine(
    (types) => Buffer.byteLength(JSON.stringify(types)) <= typesLimitBytes,
    `is longer than ${typesLimitBytes} bytes`,
  )
