/** Words for the scopes of one resource server, from whoever registered it. */
export interface ResourceWords {
  name?: string
  scopes?: ReadonlyMap<string, string>
}

export type FindResourceWords = (indicator: string) => Promise<ResourceWords | undefined>

export const SCOPE_WORDS: ReadonlyMap<string, string> = new Map([
  ['openid', 'Know who you are, by an identifier of your account'],
  ['profile', 'See your name'],
  ['email', 'See your email address'],
  ['offline_access', 'Keep this access while you are away'],
])

export const CLAIM_WORDS: ReadonlyMap<string, string> = new Map([
  ['name', 'See your name'],
  ['email', 'See your email address'],
  ['email_verified', 'See whether your email address was verified'],
])
