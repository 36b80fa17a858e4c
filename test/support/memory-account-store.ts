import type { Account, AccountStore } from '../../src/storage/account-store.ts'

export function createMemoryAccountStore(): AccountStore {
  const records = new Map<string, { account: Account; passwordHash: string }>()
  const byEmail = (email: string) =>
    [...records.values()].find(({ account }) => account.email === email)
  return {
    findById: async (id) => records.get(id)?.account,
    findByEmail: async (email) => byEmail(email),
    emailOfUsername: async (username) =>
      [...records.values()].find(({ account }) => account.username === username)?.account.email,
    insert: async (account, passwordHash) => {
      if (byEmail(account.email)) return false
      records.set(account.id, { account, passwordHash })
      return true
    },
    change: async (
      id,
      { email, username, name, emailVerified, phoneVerified, profile, groups, attributes },
    ) => {
      const record = records.get(id)
      if (!record) return undefined
      const account = Object.fromEntries(
        Object.entries({
          ...{ ...record.account, ...profile },
          ...(email !== undefined && { email, emailVerified: undefined }),
          ...(username !== undefined && { username }),
          ...(name !== undefined && { name }),
          ...(emailVerified !== undefined && { emailVerified: emailVerified || undefined }),
          ...(phoneVerified !== undefined && { phoneVerified: phoneVerified || undefined }),
          ...(groups && { groups }),
          attributes: { ...record.account.attributes, ...attributes },
        }).filter(([, value]) => value !== null && value !== undefined),
      ) as unknown as Account
      records.set(id, { ...record, account })
      return account
    },
    list: async () => [...records.values()].map(({ account }) => account),
    setPasswordHash: async (id, passwordHash) => {
      const record = records.get(id)
      if (record) records.set(id, { ...record, passwordHash })
      return record !== undefined
    },
    changeOwnPassword: async (passwordHash, { accountId }) => {
      const record = records.get(accountId)
      if (record) records.set(accountId, { ...record, passwordHash })
      return record !== undefined
    },
    endSessions: async () => 0,
    remove: async (id) => (records.delete(id) ? { id, ended: 0, revoked: 0 } : undefined),
    replacePasswordHash: async (id, from, to) => {
      const record = records.get(id)
      if (record?.passwordHash === from) records.set(id, { ...record, passwordHash: to })
    },
    setDisabled: async (id, disabled) => {
      const record = records.get(id)
      if (record) records.set(id, { ...record, account: { ...record.account, disabled } })
      return record !== undefined
    },
  }
}
