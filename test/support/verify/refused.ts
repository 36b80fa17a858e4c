import type { ExecutionContext } from 'ava'
import { VerifyError, type VerifyErrorCode } from '../../../packages/verify/errors.ts'

/** Asserts that something is refused with one code, and gives the error for a closer look. */
export async function refused(
  t: ExecutionContext,
  code: VerifyErrorCode,
  attempt: () => unknown,
): Promise<VerifyError> {
  const error = await t.throwsAsync(async () => attempt(), { instanceOf: VerifyError })
  t.is(error?.code, code)
  return error as VerifyError
}
