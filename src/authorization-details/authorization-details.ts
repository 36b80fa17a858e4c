/**
 * Authorization details (RFC 9396): read from a request, checked by their type, compared with what
 * was granted, and put into lines for people. Pure functions of JSON.
 */
import { isDeepStrictEqual } from 'node:util'
import { isObject, parseJson } from '@holdfast/verify/authorization-server'
import { isDisplayName } from '../net/display-name.ts'
import type { DetailsMember, DetailsType } from '../storage/details-type-table.ts'

/** One detail, with the members of its type. */
export type AuthorizationDetail = Readonly<Record<string, unknown>> & { readonly type: string }

/** Details of one request. A token carries them in a header, of which servers take 8 KB. */
const detailsLimit = 10

/** Bytes of the parameter. */
export const detailsLimitBytes = 4096

/** Items of one list in a detail. */
const itemsLimit = 20

/** Characters of a string whose type names no limit. */
const stringLimit = 200

/**
 * Reads the parameter `authorization_details`: some objects with a type, none of them twice. It does
 * NOT check them by their types.
 *
 * @returns what is wrong with it, as a string.
 */
export function readDetails(text: string): readonly AuthorizationDetail[] | string {
  if (Buffer.byteLength(text) > detailsLimitBytes)
    return `must not exceed ${detailsLimitBytes} bytes`
  const details = parseJson(Buffer.from(text))
  if (!Array.isArray(details) || details.length === 0 || !details.every(isDetail)) {
    return 'must be a JSON array of objects with a type, which name each member once'
  }
  if (details.length > detailsLimit) return `must not have more than ${detailsLimit} objects`
  const repeated = details.some((one, at) =>
    details.slice(0, at).some((other) => isSame(one, other)),
  )
  return repeated ? 'must not have the same object twice' : details
}

function isDetail(value: unknown): value is AuthorizationDetail {
  return isObject(value) && typeof value.type === 'string' && value.type !== ''
}

const isSame = (one: AuthorizationDetail, other: AuthorizationDetail) =>
  isDeepStrictEqual(one, other)

/**
 * What is wrong with a detail of a type (RFC 9396 section 5): an unknown member, a missing one, or a
 * value of another kind. Strings must be what people can read on one line. What the API thinks of the
 * values is NOT known here.
 */
export function detailProblem(
  { type: _, ...given }: AuthorizationDetail,
  { members }: Pick<DetailsType, 'members'>,
): string | undefined {
  return membersProblem(given, members)
}

type Members = DetailsType['members']

function membersProblem(given: Readonly<Record<string, unknown>>, members: Members) {
  if (Object.keys(given).some((name) => !Object.hasOwn(members, name))) {
    return 'has a member that its type does not have'
  }
  for (const [name, member] of Object.entries(members)) {
    const value = given[name]
    if (value === undefined) {
      if (member.required) return `needs the member ${name}`
    } else if (!isOfMember(value, member)) {
      return `has a value of ${name} that its type does not allow`
    }
  }
  return undefined
}

function isOfMember(value: unknown, { list, ...member }: DetailsMember): boolean {
  if (!list) return isOfKind(value, member)
  if (!Array.isArray(value) || value.length === 0 || value.length > itemsLimit) return false
  return value.every((each) => isOfKind(each, member))
}

function isOfKind(value: unknown, member: DetailsMember): boolean {
  switch (member.kind) {
    case 'string':
      return (
        typeof value === 'string' &&
        isDisplayName(value, member.maxLength ?? stringLimit) &&
        (member.values?.includes(value) ?? true)
      )
    case 'integer':
      return Number.isSafeInteger(value)
    case 'boolean':
      return typeof value === 'boolean'
    case 'object':
      // An empty one has no line for people to read, and may mean everything.
      return (
        isObject(value) &&
        Object.keys(value).length > 0 &&
        membersProblem(value, member.members ?? {}) === undefined
      )
  }
}

/** Members whose lists say what is allowed (RFC 9396 section 2.2): a shorter list allows less. */
const narrowable = ['locations', 'actions', 'datatypes', 'privileges']

/**
 * Whether some details are within others: each is one of them, or one with shorter lists of what is
 * allowed. What the members of a type mean is not known here, so everything else must be equal.
 */
export function areWithin(
  details: readonly AuthorizationDetail[],
  granted: readonly AuthorizationDetail[],
): boolean {
  return details.every((detail) => granted.some((each) => isWithin(detail, each)))
}

function isWithin(detail: AuthorizationDetail, granted: AuthorizationDetail): boolean {
  const names = new Set([...Object.keys(detail), ...Object.keys(granted)])
  return [...names].every((name) => {
    const [wanted, allowed] = [detail[name], granted[name]]
    if (isDeepStrictEqual(wanted, allowed)) return true
    if (!narrowable.includes(name) || !Array.isArray(wanted) || !Array.isArray(allowed))
      return false
    return wanted.length > 0 && wanted.every((each) => allowed.includes(each))
  })
}

/** One member of a detail for people: every member has a line, so that nothing is granted unseen. */
export interface DetailLine {
  /** The labels on the way to it, outermost first; the name of a member without one. */
  readonly labels: readonly string[]
  readonly value: string | boolean
}

/** All members of a detail, in the order of its type. Nothing in it is HTML. */
export function detailLines(
  { type: _, ...given }: AuthorizationDetail,
  { members }: Pick<DetailsType, 'members'>,
): DetailLine[] {
  return linesOf(given, members, [])
}

function linesOf(
  given: Readonly<Record<string, unknown>>,
  members: Members,
  way: readonly string[],
): DetailLine[] {
  return Object.entries(members).flatMap(([name, member]) => {
    const labels = [...way, member.label ?? name]
    const value = given[name]
    const values = value === undefined ? [] : [value].flat()
    return values.flatMap((each): DetailLine[] => {
      if (isObject(each)) return linesOf(each, member.members ?? {}, labels)
      return [{ labels, value: typeof each === 'boolean' ? each : String(each) }]
    })
  })
}
