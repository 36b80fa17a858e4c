/** express 4 under an alias; what the tests use of it is the same in 5. */
declare module 'express4' {
  export { default } from 'express'
}
