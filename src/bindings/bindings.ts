import type { Binding } from './binding.ts'
import { dpopBinding } from './dpop.ts'
import { mtlsBinding } from './mtls.ts'
import { tokenBindingBinding } from './token-binding.ts'

/** Every way of binding tokens that this server knows. */
export const bindings: readonly Binding[] = [dpopBinding, mtlsBinding, tokenBindingBinding]
