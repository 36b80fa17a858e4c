/** Checks what administrators say of a person. */
import { displayNameRule, isDisplayName } from '../net/display-name.ts'
import type { AccountChange, Profile } from '../storage/account-store.ts'
import { isStorable } from '../storage/text.ts'
import { AccountError } from './account-error.ts'
import { claimsByScope } from './claims.ts'
import { normalizeEmail } from './email.ts'
import { checkedUsername } from './username.ts'

/** The most characters that the name of a person, or another of their names, may have. */
export const maxNameCharacters = 200

export const groupLimits = { groups: 100, characters: 100 } as const
export const attributeLimits = { attributes: 50, characters: 1000 } as const

/** In the claims of a token. */
export const attributeNamePattern = /^[a-z][a-z0-9_]{0,49}$/

/** What is checked and brought into one form: `null` removes, and passes. */
export function checkedChange<Change extends AccountChange>(change: Change): Change {
  const { email, username, name, profile, groups, attributes } = change
  return {
    ...change,
    ...(email !== undefined && { email: normalizeEmail(email) }),
    ...(typeof username === 'string' && { username: checkedUsername(username) }),
    ...(typeof name === 'string' && { name: checkedName('name', name) }),
    ...(profile && { profile: checkedProfile(profile) }),
    ...(groups && { groups: checkedGroups(groups) }),
    ...(attributes && { attributes: checkedAttributes(attributes) }),
  }
}

const checks: Record<keyof Profile, (value: string) => string> = {
  givenName: (value) => checkedName('givenName', value),
  familyName: (value) => checkedName('familyName', value),
  preferredUsername: (value) => checkedName('preferredUsername', value),
  locale: checkedLocale,
  zoneinfo: checkedZone,
  picture: checkedPicture,
  phone: checkedPhone,
  streetAddress: (value) => checkedName('streetAddress', value),
  locality: (value) => checkedName('locality', value),
  region: (value) => checkedName('region', value),
  postalCode: (value) => checkedName('postalCode', value),
  country: (value) => checkedName('country', value),
}

function checkedProfile(profile: NonNullable<AccountChange['profile']>) {
  const checked = Object.entries(profile).map(([member, value]) => [
    member,
    typeof value === 'string' ? checks[member as keyof Profile](value) : value,
  ])
  return Object.fromEntries(checked)
}

function checkedName(member: string, name: string): string {
  const text = name.trim().normalize('NFC')
  if (isDisplayName(text, maxNameCharacters)) return text
  if (member === 'name') {
    throw new AccountError(
      'invalid_name',
      `Expected a name of ${displayNameRule(maxNameCharacters)}`,
    )
  }
  throw invalid(`${member} must be ${displayNameRule(maxNameCharacters)}`)
}

function checkedLocale(text: string): string {
  try {
    const [locale = ''] = Intl.getCanonicalLocales(text)
    if (locale.length <= 35) return locale
  } catch {
    // The same error for each of them.
  }
  throw invalid('locale must be a language tag such as en-GB (BCP 47)')
}

function checkedZone(zone: string): string {
  // Intl takes offsets as well, which the claim does not.
  if (/^[A-Za-z]{1,30}(\/[A-Za-z0-9_+-]{1,30}){0,2}$/.test(zone) && isTimeZone(zone)) return zone
  throw invalid('zoneinfo must be a time zone such as Europe/Berlin')
}

function isTimeZone(timeZone: string): boolean {
  try {
    return Boolean(new Intl.DateTimeFormat('en', { timeZone }))
  } catch {
    return false
  }
}

function checkedPicture(text: string): string {
  const url = text.length <= 2000 ? URL.parse(text) : null
  if (url?.protocol === 'https:' && !url.username && !url.password) return url.href
  throw invalid('picture must be an https URL without a user name, of 2000 characters at most')
}

/** As OpenID Connect Core section 5.1 recommends. */
function checkedPhone(text: string): string {
  const phone = text.replaceAll(/[ ().-]/g, '')
  if (/^\+[1-9]\d{1,14}$/.test(phone)) return phone
  throw invalid('phone must be an international number such as +49 30 123456 (E.164)')
}

/** @throws {@link AccountError} `invalid_profile` */
export function checkedGroups(given: readonly string[]): string[] {
  const groups = [...new Set(given.map((group) => group.normalize('NFC')))]
  if (groups.length > groupLimits.groups) {
    throw invalid(`groups must be ${groupLimits.groups} at most`)
  }
  if (groups.every((group) => isDisplayName(group, groupLimits.characters))) return groups
  throw invalid(`each of groups must be ${displayNameRule(groupLimits.characters)}`)
}

const standard: ReadonlySet<string> = new Set(Object.values(claimsByScope).flat())

function checkedAttributes(attributes: NonNullable<AccountChange['attributes']>) {
  const entries = Object.entries(attributes)
  if (entries.length > attributeLimits.attributes) {
    throw invalid(`attributes must be ${attributeLimits.attributes} at most`)
  }
  for (const [name, value] of entries) {
    if (!attributeNamePattern.test(name) || standard.has(name)) {
      throw invalid(
        `the name of an attribute must be lower-case letters, digits and _, and no standard claim (got ${JSON.stringify(name.slice(0, 60))})`,
      )
    }
    if (value !== null && (value.length > attributeLimits.characters || !isStorable(value))) {
      throw invalid(`${name} must have ${attributeLimits.characters} characters at most`)
    }
  }
  return attributes
}

const invalid = (rule: string) => new AccountError('invalid_profile', `Invalid account: ${rule}`)
