// Shows a new password while it is typed. Without this the browser hides it, and all else works.
for (const box of document.querySelectorAll('[data-show-password]')) {
  const field = document.getElementById(box.dataset.showPassword)
  box.closest('[hidden]').hidden = false
  box.addEventListener('change', () => {
    field.type = box.checked ? 'text' : 'password'
  })
  // Browsers keep what was typed in a field of text.
  field.form.addEventListener('submit', () => {
    field.type = 'password'
  })
}
