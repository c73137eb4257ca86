//! One macro for enums whose numbers are stable for ever and whose texts people read.

/// Declares an enum over `u8` with its stable numbers, a text per variant, `ALL`, `Display` and `TryFrom<u8>`.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[$doc:meta])* $variant:ident = $number:literal, $text:literal; )+ }
    ) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$doc])* $variant = $number, )+ }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The text people read.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.text())
            }
        }

        impl TryFrom<u8> for $name {
            type Error = u8;

            /// Gives the number back when this build does not know it.
            fn try_from(number: u8) -> Result<Self, u8> {
                match number { $( $number => Ok(Self::$variant), )+ _ => Err(number) }
            }
        }
    };
}

pub(crate) use numbered;
