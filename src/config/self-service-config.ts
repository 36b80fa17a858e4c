import { z } from 'zod'

/** What people may do with their accounts by themselves, beside changing how they sign in. */
export type SelfService = (typeof selfServices)[number]

const selfServices = ['name', 'email', 'locale', 'export', 'delete'] as const

const isService = (text: string): text is SelfService =>
  selfServices.some((service) => service === text)

export const selfServiceVariables = {
  HOLDFAST_ACCOUNT_SELF_SERVICE: z
    .string()
    .transform((text) => text.split(',').map((item) => item.trim()))
    .refine(
      (items) => items.every(isService),
      'must be of name, email, locale, export and delete, separated by commas',
    )
    .transform((items) => items.filter(isService))
    .default([]),
}
