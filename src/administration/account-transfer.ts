/** Accounts from another system, and to one: JSON lines, of which a batch at a time is in memory. */
import { hash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { parseJson } from '@holdfast/verify/authorization-server'
import { ZodError, type z } from 'zod'
import { AccountError } from '../accounts/account-error.ts'
import { checkedAccount, type NewAccount } from '../accounts/accounts.ts'
import { absentPasswordHash, defaultPasswordCost, isPasswordSet } from '../accounts/password.ts'
import { readPasswordHash } from '../accounts/password-hash.ts'
import { boundedLines } from '../files/bounded-lines.ts'
import type {
  AccountTransferTable,
  MovedAccount,
  MovedPasskey,
  TakenNames,
} from '../storage/account-transfer-table.ts'
import { problemsIn } from './admin-errors.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'
import { writeNewFile } from './new-file.ts'
import { importedAccount } from './requests.ts'

/** Accounts that are checked and added by one statement. */
const importBatch = 500

/** A line with 20 passkeys and all attributes has less than half of this. */
const lineLimitBytes = 256 * 1024

/**
 * Names of a file that are remembered while it is checked, to find those that are there twice. Of a
 * longer file, those that come later are found when they are imported.
 */
const mostRemembered = 2_000_000

/** What is wrong with an account of an import, and where. */
export interface ImportProblem {
  /** Counted from 1: of a line, or of an item of the request. */
  readonly line: number
  readonly problem: string
}

export interface ImportResult {
  /** Accounts that were added; in a dry run, that would be. */
  readonly added: number
  /** Accounts that are there already, and stay as they are. */
  readonly existing: number
  readonly problems: readonly ImportProblem[]
}

export interface FileImport {
  readonly dryRun: boolean
  readonly onProblem: (problem: ImportProblem) => void
  readonly onProgress: (what: string, doneBytes: number, totalBytes: number) => void
}

/** An account as the lines of an export have it. */
export type ExportedAccount = z.input<typeof importedAccount>

interface Item {
  readonly line: number
  /** Undefined for a line that is no JSON. */
  readonly value: unknown
}

export type AccountTransfer = ReturnType<typeof createAccountTransfer>

/** @param now milliseconds since the epoch. */
export function createAccountTransfer(
  table: AccountTransferTable,
  recordChange: RecordChange,
  now: () => number,
) {
  /**
   * Checks some accounts, and adds those that are not there. Where one of them has a problem, none
   * is added. An account that is there already, by its email, stays as it is: an import that was
   * interrupted can be repeated.
   *
   * @param seen names of accounts before these, with their lines.
   */
  async function importBatchOf(
    items: readonly Item[],
    { dryRun, seen }: { dryRun: boolean; seen: Map<number, number> },
  ): Promise<ImportResult> {
    const read = items.map((item) => readItem(item, now()))
    const moved = read.flatMap((each) => ('moved' in each ? [each] : []))
    const taken = await table.findTaken(moved.map((each) => each.moved))
    const judged = moved.map((each) => ({ ...each, verdict: verdictOn(each, taken, seen) }))
    const problems = [
      ...read.flatMap((each) => ('problem' in each ? [each] : [])),
      ...judged.flatMap(({ line, verdict }) =>
        verdict.problem === undefined ? [] : [{ line, problem: verdict.problem }],
      ),
    ].sort((one, other) => one.line - other.line)
    const fresh = judged.filter(({ verdict }) => !verdict.problem && !verdict.isThere)
    const existing = judged.filter(({ verdict }) => verdict.isThere).length
    if (dryRun || problems.length > 0 || fresh.length === 0) {
      return { added: problems.length > 0 ? 0 : fresh.length, existing, problems }
    }
    return { ...(await add(fresh)), existing }
  }

  async function add(fresh: readonly Read[]): Promise<Omit<ImportResult, 'existing'>> {
    const added = await table.insert(fresh.map(({ moved }) => moved))
    const lines = fresh.map(({ line }) => line)
    if (added.size > 0) {
      const range = { first_line: lines[0], last_line: lines.at(-1) }
      recordChange('accounts.imported', {}, { added: added.size, ...range })
    }
    const problems = fresh
      .filter(({ moved }) => !added.has(moved.account.id))
      .map(({ line }) => ({
        line,
        problem: 'its email, id, username or passkey was taken meanwhile',
      }))
    return { added: added.size, problems }
  }

  async function pass(
    file: string,
    { dryRun, onProblem, onProgress }: FileImport,
  ): Promise<Omit<ImportResult, 'problems'> & { lines: number; problems: number }> {
    const what = `${dryRun ? 'Checking' : 'Importing'} ${file}`
    const sum = { lines: 0, added: 0, existing: 0, problems: 0 }
    const { size } = await stat(file).catch(unreadable(file))
    let seen = new Map<number, number>()
    let batch: Item[] = []
    async function flush() {
      const { added, existing, problems } = await importBatchOf(batch, { dryRun, seen })
      sum.added += added
      sum.existing += existing
      sum.problems += problems.length
      for (const problem of problems) onProblem(problem)
      if (!dryRun || seen.size > mostRemembered) seen = new Map()
      batch = []
    }
    onProgress(what, 0, size)
    const chunks = createReadStream(file)
    try {
      for await (const { number, bytes, readBytes } of boundedLines(chunks, lineLimitBytes)) {
        if (bytes?.length === 0) continue
        sum.lines += 1
        batch.push({ line: number, value: bytes && parseJson(bytes, lineLimitBytes) })
        if (batch.length < importBatch) continue
        await flush()
        onProgress(what, readBytes, size)
      }
    } catch (error) {
      const { syscall } = error as NodeJS.ErrnoException
      throw syscall === 'read' || syscall === 'open' ? unread(file, error as Error) : error
    }
    if (batch.length > 0) await flush()
    onProgress(what, size, size)
    return sum
  }

  return {
    /** Accounts of one request. */
    import: (accounts: readonly unknown[], { dryRun = false } = {}): Promise<ImportResult> =>
      importBatchOf(
        accounts.map((value, at) => ({ line: at + 1, value })),
        { dryRun, seen: new Map() },
      ),

    /**
     * Checks all lines of a file, and imports them where none has a problem; a dry run only checks.
     * What changes in the database between the two is a problem of the batch that it concerns.
     *
     * @throws AdministrationError for a file that cannot be read.
     */
    async importFile(file: string, options: FileImport) {
      const checked = await pass(file, { ...options, dryRun: true })
      if (options.dryRun || checked.problems > 0) return { ...checked, imported: false }
      return { ...(await pass(file, options)), imported: true }
    },

    /** Accounts in the order of their ids, without hashes of passwords. */
    async list({ after = '', limit }: { after?: string | undefined; limit: number }) {
      const accounts = await table.listAfter(after, limit)
      return accounts.map((each) => exported(each, false))
    },

    /**
     * Writes all accounts to a new file, one JSON object a line.
     *
     * @throws AdministrationError where the file exists or cannot be made.
     */
    async exportFile(file: string, { withHashes }: { withHashes: boolean }) {
      let accounts = 0
      async function* lines() {
        for await (const each of table.all()) {
          accounts += 1
          yield `${JSON.stringify(exported(each, withHashes))}\n`
        }
      }
      await writeNewFile(file, lines())
      recordChange('accounts.exported', {}, { accounts, with_hashes: withHashes })
      return { accounts }
    },
  }
}

interface Read {
  readonly line: number
  readonly moved: MovedAccount
  readonly hasId: boolean
}

function readItem({ line, value }: Item, nowMs: number): Read | ImportProblem {
  if (value === undefined) {
    return { line, problem: 'must be one JSON object that names each member once' }
  }
  try {
    return { line, ...movedAccount(importedAccount.parse(value), nowMs) }
  } catch (error) {
    if (error instanceof ZodError)
      return { line, problem: problemsIn(error, 'the account').replace(/\.$/, '') }
    if (error instanceof AccountError) return { line, problem: error.message }
    throw error
  }
}

function movedAccount(
  { id, disabled = false, createdAt, updatedAt, ...given }: z.output<typeof importedAccount>,
  nowMs: number,
): Omit<Read, 'line'> {
  const { passwordHash, passkeys = [], emailVerified, phoneVerified, ...others } = given
  const about = {
    ...others,
    ...(emailVerified && { emailVerified: true as const }),
    ...(phoneVerified && { phoneVerified: true as const }),
  }
  const account = checkedAccount(about as NewAccount, {
    id: id ?? randomUUID(),
    createdAt: createdAt === undefined ? new Date(nowMs) : new Date(createdAt),
  })
  return {
    hasId: id !== undefined,
    moved: {
      account: {
        ...account,
        disabled,
        ...(updatedAt !== undefined && { updatedAt: new Date(updatedAt) }),
      },
      passwordHash:
        passwordHash === undefined
          ? absentPasswordHash(defaultPasswordCost)
          : readPasswordHash(passwordHash),
      passkeys: passkeys.map(
        (passkey): MovedPasskey => ({
          ...passkey,
          createdAt: passkey.createdAt ?? new Date(nowMs).toISOString(),
        }),
      ),
    },
  }
}

interface Verdict {
  readonly problem?: string
  /** Whether the account is there already. */
  readonly isThere?: true
}

/** What an account of an import is beside those before it and those that are there. */
function verdictOn(
  { line, moved, hasId }: Read,
  taken: TakenNames,
  seen: Map<number, number>,
): Verdict {
  const { account, passkeys } = moved
  const repeated = [
    ['email', account.email],
    ...(hasId ? [['id', account.id]] : []),
    ...(account.username === undefined ? [] : [['username', account.username]]),
    ...passkeys.map(({ credentialId }) => ['passkey', credentialId]),
  ].flatMap(([name = '', value = '']) => {
    const key = hash('sha256', `${name} ${value}`, 'buffer').readUIntBE(0, 6)
    const before = seen.get(key)
    seen.set(key, before ?? line)
    return before === undefined ? [] : [`${name} is that of line ${before} as well`]
  })
  if (repeated.length > 0) return { problem: repeated.join('; ') }
  const sameEmail = taken.accounts.find(({ email }) => email === account.email)
  if (sameEmail) {
    if (!hasId || sameEmail.id === account.id) return { isThere: true }
    return { problem: `the account for ${account.email} has another id (${sameEmail.id})` }
  }
  const sameId = taken.accounts.find(({ id }) => id === account.id)
  if (sameId) return { problem: `id is that of the account for ${sameId.email}` }
  const { username } = account
  if (username && taken.accounts.some((other) => other.username === username)) {
    return { problem: `username ${username} is that of another account` }
  }
  const isTaken = passkeys.some(({ credentialId }) => taken.credentialIds.includes(credentialId))
  return isTaken ? { problem: 'one of its passkeys belongs to another account' } : {}
}

/** As an import takes it. Code apps and recovery codes stay: the former are sealed by this server. */
function exported(
  { account, passwordHash, passkeys }: MovedAccount,
  withHashes: boolean,
): ExportedAccount {
  const { hasCodeApp: _, ...about } = account
  return JSON.parse(
    JSON.stringify({
      ...about,
      ...(passkeys.length > 0 && { passkeys }),
      ...(withHashes && isPasswordSet(passwordHash) && { passwordHash }),
    }),
  )
}

const unread = (file: string, { code }: NodeJS.ErrnoException) =>
  new AdministrationError('invalid_request', `${file} cannot be read (${code}).`)

const unreadable = (file: string) => (error: NodeJS.ErrnoException) => {
  throw unread(file, error)
}
