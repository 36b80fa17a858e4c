/** The grant type of RFC 8628 section 3.4. */
export const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code'

/** The grant type of OpenID Connect CIBA Core 1.0 section 10.1. */
export const cibaGrant = 'urn:openid:params:grant-type:ciba'
