// @peculiar/x509 expects whoever imports it to have imported this first.
import 'reflect-metadata'

export * from '@peculiar/x509'
