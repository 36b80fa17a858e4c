import type { Account, AccountStore } from '../../src/storage/account-store.ts'

export function createMemoryAccountStore(): AccountStore {
  const records = new Map<string, { account: Account; passwordHash: string }>()
  const byEmail = (email: string) =>
    [...records.values()].find(({ account }) => account.email === email)
  return {
    findById: async (id) => records.get(id)?.account,
    findByEmail: async (email) => byEmail(email),
    insert: async (account, passwordHash) => {
      if (byEmail(account.email)) return false
      records.set(account.id, { account, passwordHash })
      return true
    },
    list: async () => [...records.values()].map(({ account }) => account),
    setPasswordHash: async (id, passwordHash) => {
      const record = records.get(id)
      if (record) records.set(id, { ...record, passwordHash })
      return record !== undefined
    },
    endSessions: async () => 0,
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
