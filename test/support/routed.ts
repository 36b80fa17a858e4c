import { routing } from '../../src/http/routing.ts'

/** Every feature on, which is how tests of single parts want it. */
export const everyFeature = { adminApi: true, deviceFlow: true, registration: true, signUp: true }

/** Routes of an issuer without a path, for applications that are a part of the server. */
export function routed() {
  return routing({ issuer: 'https://id.example', arrivalPath: '', features: everyFeature })
}
