import { z } from 'zod'
import { makePrintedCode, printedCodeDigest } from '../accounts/one-time-codes.ts'
import { checkedGroups, groupLimits } from '../accounts/profile.ts'
import { publicRoutes } from '../http/routes.ts'
import { displayNameRule, displayNameSchema, isDisplayName } from '../net/display-name.ts'
import type { SignUpTable, StoredInvitation } from '../storage/sign-up-table.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'
import { isDigest } from './digest.ts'

const day = 24 * 60 * 60
const longest = 365 * day
const most = 10_000

const displayName = (limit: number) =>
  z
    .string()
    .refine((text) => isDisplayName(text, limit), `must be ${displayNameRule(limit)}`)
    .meta(displayNameSchema(limit))

/** What an administrator says of a new invitation. */
export const newInvitation = z.strictObject({
  name: displayName(100).describe('For administrators, to tell it from others'),
  groups: z
    .array(displayName(groupLimits.characters))
    .max(groupLimits.groups)
    .default([])
    .describe('Groups of every account that is made by it'),
  uses: z.int().min(1).max(most).default(1).describe('Accounts that can be made by it'),
  lifetime: z
    .int()
    .min(60)
    .max(longest)
    .default(7 * day)
    .describe('Seconds'),
})

export type NewInvitation = z.input<typeof newInvitation>

/** An invitation with what is known only from this answer. */
export interface CreatedInvitation extends StoredInvitation {
  readonly code: string
  /** The page of the sign-up, with the code filled in. */
  readonly link: string
}

/** Codes by which people make accounts for themselves, where `HOLDFAST_SIGN_UP` is `invitation`. */
export function administerInvitations(
  table: Pick<SignUpTable, 'insertInvitation' | 'listInvitations' | 'removeInvitation'>,
  issuer: string,
  recordChange: RecordChange,
) {
  return {
    list: () => table.listInvitations(),

    /** @throws AdministrationError `invalid_request` */
    async create(asked: NewInvitation): Promise<CreatedInvitation> {
      const { data, error } = newInvitation.safeParse(asked)
      if (!data) {
        const [issue] = error.issues
        const where = issue?.path.join('.') || 'The invitation'
        throw new AdministrationError('invalid_request', `${where}: ${issue?.message}.`, {
          cause: error,
        })
      }
      const { name, uses, lifetime: lifetimeS } = data
      const groups = checkedGroups(data.groups)
      const code = makePrintedCode()
      const digest = printedCodeDigest(code) as Buffer
      const stored = await table.insertInvitation(digest, { name, groups, uses, lifetimeS })
      recordChange('invitation.created', {}, { id: stored.id, name, groups, uses })
      return { ...stored, code, link: `${issuer}${publicRoutes.sign_up.path}?code=${code}` }
    },

    /** Links that were mailed by it stop working. Accounts that were made by it stay. */
    async revoke(id: string): Promise<void> {
      const name = isDigest(id) ? await table.removeInvitation(id) : undefined
      if (name === undefined) {
        throw new AdministrationError('not_found', `There is no invitation ${id}.`)
      }
      recordChange('invitation.revoked', {}, { id, name })
    },
  }
}
